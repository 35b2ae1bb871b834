package audit

import "runtime"

// ahead is how many blocks are decoded ahead of the one that is verified.
const ahead = 64

// walk reads all blocks; decoding runs beside it.
func (c *checker) walk(walk Walk) error {
	type slot struct {
		seq     uint64
		decoded chan Decoded
	}
	type job struct {
		payload []byte
		to      chan Decoded
	}
	full := c.reader.Each != nil
	line, work, done := make(chan slot, ahead), make(chan job, ahead), make(chan struct{})
	for range runtime.GOMAXPROCS(0) {
		go func() { // ends when work is closed, which is when all was handed out; what it decodes then is taken below
			for j := range work {
				j.to <- Decode(j.payload, full)
			}
		}()
	}
	go func() {
		defer close(done)
		for s := range line {
			d := <-s.decoded
			c.take(s.seq, &d)
		}
	}()
	err := walk(func(seq uint64, payload []byte) error {
		s := slot{seq, make(chan Decoded, 1)}
		work <- job{payload, s.decoded}
		line <- s
		return nil
	})
	close(work)
	close(line)
	<-done // every block was taken, so the decoders have nothing left
	return err
}

func (c *checker) take(seq uint64, d *Decoded) {
	if _, named := c.digests[seq]; named {
		c.digests[seq] = d.Digest
	}
	c.reader.AddDecoded(seq, d)
}

package audit

import "runtime"

// Blocks are decoded in runs, several runs at a time, beside the one that is verified.
const (
	runsAhead = 32
	runBlocks = 64
	runBytes  = 128 << 10 // of payloads, but for the last
)

// run is some blocks on their way.
type run struct {
	seqs     []uint64
	payloads [][]byte
	bytes    int
	decoded  chan []Decoded
}

func newRun() *run { return &run{decoded: make(chan []Decoded, 1)} }

func (r *run) decode(full bool) {
	out := make([]Decoded, len(r.payloads))
	for i, p := range r.payloads {
		out[i] = Decode(p, full)
	}
	r.decoded <- out
}

// walk reads all blocks; decoding and verifying run beside it.
func (c *checker) walk(walk Walk) error {
	full := c.reader.Each != nil
	line, work, done := make(chan *run, runsAhead), make(chan *run, runsAhead), make(chan struct{})
	for range runtime.GOMAXPROCS(0) {
		go func() { // ends when work is closed and empty, which is before all was taken below
			for r := range work {
				r.decode(full)
			}
		}()
	}
	go func() {
		defer close(done)
		for r := range line {
			for i, d := range <-r.decoded {
				c.take(r.seqs[i], &d)
			}
		}
	}()
	filling := newRun()
	hand := func() {
		work <- filling
		line <- filling
		filling = newRun()
	}
	err := walk(func(seq uint64, payload []byte) error {
		filling.seqs, filling.payloads = append(filling.seqs, seq), append(filling.payloads, payload)
		if filling.bytes += len(payload); filling.bytes >= runBytes || len(filling.seqs) >= runBlocks {
			hand()
		}
		return nil
	})
	hand()
	close(work)
	close(line)
	<-done
	return err
}

func (c *checker) take(seq uint64, d *Decoded) {
	if _, named := c.digests[seq]; named {
		c.digests[seq] = d.Digest
	}
	c.reader.AddDecoded(seq, d)
}

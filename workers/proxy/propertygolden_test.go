package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// goldenID is the golden volume of random histories.
const goldenID events.VolumeID = "golden"

// tinyImage is an image of 1 MiB of zeroes, packed.
var tinyImage = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		panic(err)
	}
	_, err = z.Write(make([]byte, tinyBytes))
	if err := errors.Join(err, z.Close()); err != nil {
		panic(err)
	}
	return b.Bytes()
})

const tinyBytes = 1 << 20

// holdsAtFirst is what the n-th extent of a volume holds when it becomes ready.
func holdsAtFirst(v desired.Volume, n int) string {
	if v.SourceBytes > 0 && n == 0 {
		return "image"
	}
	return "0"
}

// copying says whether a volume that is copied from the golden one is not ready.
func (p *plane) copying() bool {
	return slices.ContainsFunc(p.volumes, func(v desired.Volume) bool {
		return v.From == goldenID && v.Want == desired.There && p.ready[v.Volume] == 0
	})
}

// fromImage makes the golden volume if there is none, else a volume that is copied from it.
func (p *plane) fromImage(t *rapid.T) {
	s := p.free(t)
	if s == nil {
		return
	}
	zip := tinyImage()
	v := desired.Volume{Volume: goldenID, Segments: s, Want: desired.There, Source: blobOf(zip), SourceBytes: tinyBytes, SourceContent: sum(make([]byte, tinyBytes))}
	for _, x := range p.volumes {
		if x.Volume == goldenID && x.Want == desired.Absent {
			return
		}
		if x.Volume == goldenID {
			p.serial++
			v.From, v.Volume = goldenID, events.VolumeID("c"+string(rune('a'+p.serial)))
		}
	}
	if v.Volume == goldenID {
		p.ready[goldenID] = 0 // of an earlier one
	}
	p.volumes = append(p.volumes, v)
}

// serverFails lets the server that has images give half of them, or serve again.
func (p *plane) serverFails(fails bool) {
	zip := tinyImage()
	p.w.fetch = func(context.Context, events.Blob) (io.ReadCloser, error) {
		if fails {
			return io.NopCloser(bytes.NewReader(zip[:len(zip)/2])), nil
		}
		return io.NopCloser(bytes.NewReader(zip)), nil
	}
	p.worker.Fetch = p.w.fetch
}

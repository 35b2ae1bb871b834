package build

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/u-root/mkuimage/cpio"

	"cloudengine/bootimage"
)

// Words for what is in the initramfs and comes from no package's files alone.
const (
	contentAgent    = "noded"
	contentModules  = "kernel modules"
	contentUserland = "userland (u-root)"
)

// contentsOf says what fills the initramfs: it reads the finished base, so that what is told is what is there.
func contentsOf(b *base, o Options) ([]bootimage.Content, error) {
	key, err := b.key()
	if err != nil {
		return nil, err
	}
	packed, err := os.Open(filepath.Join(o.Cache, "base-"+key+".cpio.gz"))
	if err != nil {
		return nil, fmt.Errorf("measure the initramfs: %w", err)
	}
	defer packed.Close()
	owner := map[string]string{}
	for _, f := range b.files {
		owner[strings.TrimPrefix(f.dest, "/")] = f.from.Name
	}
	found, err := measure(packed, owner)
	if err != nil {
		return nil, fmt.Errorf("measure the initramfs: %w", err)
	}
	agent, err := os.Stat(filepath.Join(o.Cache, "noded"))
	if err != nil {
		return nil, fmt.Errorf("measure the agent: %w", err)
	}
	found = append(found, bootimage.Content{Name: contentAgent, Files: 1, Size: agent.Size()})
	slices.SortFunc(found, func(a, b bootimage.Content) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Name, b.Name))
	})
	return found, nil
}

// measure sums the files of a packed archive by who they come from. Files without content are not counted.
func measure(packed io.Reader, owner map[string]string) ([]bootimage.Content, error) {
	z, err := gzip.NewReader(packed)
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(plain)))
	if err != nil {
		return nil, err
	}
	sums := map[string]bootimage.Content{}
	for _, r := range records {
		if r.Mode&cpio.S_IFMT != cpio.S_IFREG || r.FileSize == 0 {
			continue
		}
		name, known := owner[r.Name]
		switch {
		case known:
		case strings.HasPrefix(r.Name, "lib/modules/"):
			name = contentModules
		default:
			name = contentUserland
		}
		c := sums[name]
		sums[name] = bootimage.Content{Name: name, Files: c.Files + 1, Size: c.Size + int64(r.FileSize)}
	}
	out := make([]bootimage.Content, 0, len(sums))
	for _, name := range sortedKeys(sums) {
		out = append(out, sums[name])
	}
	return out, nil
}

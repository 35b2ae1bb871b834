package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// manifest says what an image was made of.
type manifest struct {
	Release      string            `json:"release"`
	Kernel       string            `json:"kernel"` // its version
	Root         string            `json:"root"`   // UUID of the root file system: of the packages and of our files
	Bytes        int64             `json:"bytes"`
	UsedBytes    int64             `json:"used_bytes"` // sum of the sizes of the files in it
	SHA256       string            `json:"sha256"`
	PackedBytes  int64             `json:"packed_bytes"`
	PackedSHA256 string            `json:"packed_sha256"`
	Packages     map[string]string `json:"packages"` // versions by name
}

// describe reads what was installed.
func (b *builder) describe(ctx context.Context) (manifest, error) {
	m := manifest{Release: suite, Packages: map[string]string{}}
	out, err := command(ctx, "dpkg-query", "--admindir="+filepath.Join(b.tree, "var/lib/dpkg"), "-W", "-f", "${Package} ${Version}\n")
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(out)) {
		name, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		m.Packages[name] = version
	}
	kernels, err := filepath.Glob(filepath.Join(b.tree, "boot/kernel-pv-*"))
	if err != nil || len(kernels) != 1 {
		return m, fmt.Errorf("find the kernel in the tree: %d candidates", len(kernels))
	}
	m.Kernel = strings.TrimPrefix(filepath.Base(kernels[0]), "kernel-pv-")
	if m.Root, err = m.root(); err != nil {
		return m, err
	}
	return m, nil
}

// root makes the UUID of the root file system from all that determines what is in it.
func (m manifest) root() (string, error) {
	h := sha256.New()
	list, err := json.Marshal(m.Packages)
	if err != nil {
		return "", fmt.Errorf("write the list of packages: %w", err)
	}
	h.Write(list)
	err = fs.WalkDir(rootfs, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := rootfs.ReadFile(path)
		fmt.Fprintf(h, "%s %x\n", path, sha256.Sum256(body))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read our files: %w", err)
	}
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(hex.EncodeToString(h.Sum(nil)))).String(), nil
}

// size sums the sizes of all files below a directory, in bytes.
func size(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", dir, err)
	}
	return sum, nil
}

func (m manifest) write(dir string) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, manifestName), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

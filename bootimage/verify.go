package bootimage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Verify reads the manifest of the image in dir, and all its parts, and refuses an image of which one has another digest than the
// manifest says.
func Verify(dir string) (Manifest, error) {
	m, err := ReadManifest(dir)
	if err != nil {
		return Manifest{}, err
	}
	for _, p := range m.Parts {
		f, err := os.Open(filepath.Join(dir, p.Name))
		if err != nil {
			return Manifest{}, fmt.Errorf("verify boot image %s: %w", m.Version, err)
		}
		err = CopyPart(io.Discard, f, p)
		f.Close() // it was only read
		if err != nil {
			return Manifest{}, fmt.Errorf("verify boot image %s: %w", m.Version, err)
		}
	}
	return m, nil
}

// CopyPart copies a part and says whether it was the part: its size and its digest.
func CopyPart(to io.Writer, from io.Reader, p Part) error {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, h), io.LimitReader(from, p.Size+1))
	if err != nil {
		return fmt.Errorf("copy %s: %w", p.Name, err)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); n != p.Size || sum != p.SHA256 {
		return fmt.Errorf("copy %s: %d bytes with digest %s are not what the manifest says (%d, %s)", p.Name, n, sum, p.Size, p.SHA256)
	}
	return nil
}

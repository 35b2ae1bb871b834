package netboot

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cloudengine/bootimage"
)

const (
	imagesDir = "images" // copies of images that machines boot, by version
	// maxUnlisted bounds the copies that are kept of images that no machine boots any more, for one that comes back to them.
	maxUnlisted = 4
	// checkKept is how often every byte of a copy is read again; one that a disk has spoilt is made anew.
	checkKept = 10 * time.Minute
)

// Images lists the images in the image directory that are whole as far as sizes tell, by directory.
func (s *Service) Images() (map[string]bootimage.Manifest, error) {
	found := map[string]bootimage.Manifest{}
	if s.opt.ImageDir == "" {
		return found, nil
	}
	entries, err := os.ReadDir(s.opt.ImageDir)
	if err != nil {
		return nil, fmt.Errorf("list boot images: %w", err)
	}
	dirs := []string{s.opt.ImageDir}
	for _, e := range entries {
		if e.IsDir() && imageVersion.MatchString(e.Name()) {
			dirs = append(dirs, filepath.Join(s.opt.ImageDir, e.Name()))
		}
	}
	for _, dir := range dirs {
		if m, err := bootimage.ReadManifest(dir); err == nil {
			found[dir] = m
		}
	}
	return found, nil
}

// KeepImages copies images that machines boot into our own directory, from the image directory or from the blobs, so that neither a build that
// clears old images away nor the loss of bus and database takes from a machine what it boots. Every byte is verified. The error tells of
// those of which parts are found nowhere; the others are there.
func (s *Service) KeepImages(list []bootimage.Manifest) error {
	s.keeping.Lock()
	defer s.keeping.Unlock()
	var failed []error
	listed := map[string]bool{}
	for _, m := range list {
		if !imageVersion.MatchString(m.Version) {
			continue
		}
		listed[m.Version] = true
		if err := s.keepImage(m); err != nil {
			failed = append(failed, fmt.Errorf("keep boot image %s: %w", m.Version, err))
		}
	}
	return errors.Join(append(failed, s.pruneImages(listed))...)
}

func (s *Service) keepImage(m bootimage.Manifest) error {
	home := filepath.Join(s.opt.DataDir, imagesDir)
	target := filepath.Join(home, m.Version)
	if s.isWhole(target, m.Version) {
		return nil
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	stage, err := os.MkdirTemp(home, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage) // renamed, if all went well
	for _, p := range m.Parts {
		if err := s.keepPart(m.Version, p, filepath.Join(stage, p.Name)); err != nil {
			return err
		}
	}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := writeDurably(filepath.Join(stage, bootimage.ManifestFile), raw); err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(stage, 0o755), os.RemoveAll(target)); err != nil { // what was there is broken
		return err
	}
	if err := os.Rename(stage, target); err != nil {
		return err
	}
	return syncDir(home)
}

// isWhole looks at a copy: at sizes each time, at every byte now and then.
func (s *Service) isWhole(dir, version string) bool {
	look, now := bootimage.ReadManifest, s.opt.Now()
	if now.Sub(s.kept[version]) >= checkKept {
		look = bootimage.Verify
	}
	_, err := look(dir)
	if err != nil {
		delete(s.kept, version)
		return false
	}
	if now.Sub(s.kept[version]) >= checkKept {
		s.kept[version] = now
	}
	return true
}

// keepPart copies one part from the first place that has it unharmed.
func (s *Service) keepPart(version string, p bootimage.Part, to string) error {
	var places []string
	if s.opt.BlobDir != "" && blobName.MatchString(p.SHA256) {
		places = append(places, filepath.Join(s.opt.BlobDir, p.SHA256))
	}
	if s.opt.ImageDir != "" {
		places = append(places, filepath.Join(s.opt.ImageDir, version, p.Name), filepath.Join(s.opt.ImageDir, bootimage.CurrentLink, p.Name),
			filepath.Join(s.opt.ImageDir, p.Name))
	}
	err := fmt.Errorf("find %s: %w (upload the image again: cloudengine bootimage add DIR)", p.Name, os.ErrNotExist)
	for _, place := range places {
		f, openErr := os.Open(place)
		if openErr != nil {
			continue
		}
		copyErr := copyPart(f, p, to)
		f.Close() // it was only read
		if copyErr == nil {
			return nil
		}
		err = copyErr
	}
	return err
}

func copyPart(from *os.File, p bootimage.Part, to string) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	return errors.Join(bootimage.CopyPart(f, from, p), f.Sync(), f.Close())
}

// pruneImages removes the oldest copies of images that no machine boots any more, and what a crash left half done.
func (s *Service) pruneImages(listed map[string]bool) error {
	home := filepath.Join(s.opt.DataDir, imagesDir)
	entries, err := os.ReadDir(home)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list kept boot images: %w", err)
	}
	type old struct {
		path string
		age  int64
	}
	var unlisted []old
	var failed []error
	for _, e := range entries {
		path := filepath.Join(home, e.Name())
		info, err := e.Info()
		switch {
		case strings.HasPrefix(e.Name(), ".new-"):
			failed = append(failed, os.RemoveAll(path))
		case err == nil && !listed[e.Name()]:
			unlisted = append(unlisted, old{path, info.ModTime().UnixNano()})
		}
	}
	slices.SortFunc(unlisted, func(a, b old) int { return int(min(max(b.age-a.age, -1), 1)) })
	for i := maxUnlisted; i < len(unlisted); i++ {
		failed = append(failed, os.RemoveAll(unlisted[i].path))
	}
	return errors.Join(failed...)
}

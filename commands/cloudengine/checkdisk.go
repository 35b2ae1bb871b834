package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/commands/filesystem"
)

// Bounds of the checks of the disk.
const (
	leastFree  = 256 << 20 // bytes; below, the streams cannot be made
	littleFree = 5 << 30
	usersFull  = 0.90 // then users' intents are refused
	fsyncs     = 40
	slowFsync  = 20 * time.Millisecond // p90; a block waits for one
)

// existing gives the path, or the nearest directory above it that is there.
func existing(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	for abs != "/" {
		if _, err := os.Stat(abs); err == nil {
			break
		}
		abs = filepath.Dir(abs)
	}
	return abs
}

func checkData(_ context.Context, o serveOptions) []finding {
	dir := existing(o.data)
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return lack(fmt.Sprintf("give it to the user that runs the server: chown -R USER %s", dir), "%s cannot be written: %v", dir, err)
	}
	if err := isOurs(o.data); err != nil {
		return lack("name another directory with --data", "%v", err)
	}
	if _, err := os.Stat(o.data); err != nil {
		return doubt("cloudengine init makes it, and the first start too", "%s is not there yet", o.data)
	}
	if f, err := os.Open(filepath.Join(o.data, "lock")); err == nil {
		defer f.Close()
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			return fine("%s; a server runs on it", o.data)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(o.data, &st); err == nil && slices.Contains([]int64{unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.NFS_SUPER_MAGIC}, int64(st.Type)) {
		return doubt("put it on a local disk", "%s is in memory or on NFS: what is acknowledged there may be lost", o.data)
	}
	return fine("%s", o.data)
}

// checkPermissions looks for secrets that others can read.
func checkPermissions(_ context.Context, o serveOptions) []finding {
	var open []string
	err := filepath.WalkDir(o.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				return nil
			}
			return err
		}
		rel, _ := filepath.Rel(o.data, path) // path begins with data
		if d.IsDir() {
			if slices.Contains(derivedFiles, rel) || rel == "blobs" {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 && isSecret(rel) {
			open = append(open, path)
		}
		return nil
	})
	for _, f := range []string{o.clusterSecretFile, o.dsnFile, o.alerts.webhookSecret, o.alerts.password} {
		if info, err := os.Stat(f); f != "" && err == nil && info.Mode().Perm()&0o027 != 0 {
			open = append(open, f)
		}
	}
	if err != nil {
		return lack("see to the data directory", "%s cannot be looked through: %v", o.data, err)
	}
	if len(open) > 0 {
		return lack("chmod 600 "+strings.Join(open, " "), "others can read %s", strings.Join(open, ", "))
	}
	return fine("secrets are read by their owner alone")
}

func isSecret(rel string) bool {
	switch filepath.Ext(rel) {
	case ".nk", ".key", ".sealed":
		return true
	}
	return strings.HasPrefix(rel, "secrets/")
}

func checkSpace(_ context.Context, o serveOptions) []finding {
	dir := existing(o.data)
	room, err := filesystem.RoomOf(dir)
	if err != nil {
		return doubt("see df "+dir, "%v", err)
	}
	free, used := room.Free, room.Share()
	text := fmt.Sprintf("%.1f GiB free, %.0f %% used", float64(free)/(1<<30), 100*used)
	const mend = "make room, or name a directory on another disk with --data"
	switch {
	case free < leastFree:
		return lack(mend, "%s: a server needs %d MiB", text, leastFree>>20)
	case used > usersFull:
		return doubt(mend, "%s: above %.0f %% users' intents are refused", text, 100*usersFull)
	case free < littleFree:
		return doubt(mend, "%s", text)
	}
	return fine("%s", text)
}

// checkFsync measures how long the disk takes to keep 4 KiB.
func checkFsync(ctx context.Context, o serveOptions) []finding {
	f, err := os.CreateTemp(existing(o.data), ".check-*")
	if err != nil {
		return doubt("see what is said of the data directory", "not measured: %v", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	took := make([]time.Duration, 0, fsyncs)
	for page := make([]byte, 4096); len(took) < fsyncs && ctx.Err() == nil; {
		began := time.Now()
		_, err := f.Write(page)
		if err = errors.Join(err, f.Sync()); err != nil {
			return lack("see dmesg for what the disk says", "writing failed: %v", err)
		}
		took = append(took, time.Since(began))
	}
	if len(took) == 0 {
		return doubt("run it again", "not measured")
	}
	slices.Sort(took)
	half, most := took[len(took)/2].Round(10*time.Microsecond), took[len(took)*9/10].Round(10*time.Microsecond)
	if most > slowFsync {
		return doubt("use an SSD with power-loss protection; each block of decisions waits for one fsync", "fsync takes %v (half), %v (nine of ten)", half, most)
	}
	return fine("fsync takes %v (half), %v (nine of ten)", half, most)
}

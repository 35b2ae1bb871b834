package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// consoleDir is where xenconsoled writes what guests print.
	consoleDir = "/var/log/xen/console"
	// ConsoleLimit bounds the log of one domain's console, in bytes, give or take what comes within two seconds. Beyond
	// it the oldest eighth is dropped.
	ConsoleLimit = 1 << 20
	// freshShare is what part of the limit the file that is written may take before it is moved away: an eighth, since a device
	// model may write no file beyond 256 KiB.
	freshShare = 8
	// consolesLimit bounds all logs together, in bytes, also those of domains that are gone: they lie in the control domain's
	// memory, and a tenant may make and delete one domain after the other. Beyond it the logs that were written least
	// recently are emptied.
	consolesLimit = 128 << 20
	// consolePeriod is the time between two looks at the sizes.
	consolePeriod = 2 * time.Second
)

// ErrBadName is returned for a domain's name that cannot be the name of a file.
var ErrBadName = errors.New("not a domain name")

// ReadConsole returns the last limit bytes, at most ConsoleLimit, of what the domain of this name has printed, over its
// re-creations. A domain that never printed gives nothing and no error.
func ReadConsole(name string, limit int64) ([]byte, error) {
	return readConsole(consoleDir, name, limit)
}

// ForgetConsole removes the log of a domain that will not come back. It is no error if there is none.
func ForgetConsole(name string) error {
	return forgetConsole(consoleDir, name)
}

// ConsolePath says in which file the domain of this name prints: xenconsoled appends what comes by Xen's console, and the device model of
// an HVM domain what comes by its serial port.
func ConsolePath(name string) string {
	path, err := consolePath(consoleDir, name)
	if err != nil {
		return ""
	}
	return path
}

// ForgetConsoles removes the logs of domains that will not come back, whose names begin so: of what they printed, and of their device
// models.
func ForgetConsoles(prefix string) error {
	return errors.Join(forgetAll(filepath.Join(consoleDir, "guest-"), prefix), forgetAll(filepath.Join(filepath.Dir(consoleDir), "qemu-dm-"), prefix))
}

func forgetAll(before, prefix string) error {
	if prefix == "" || strings.ContainsAny(prefix, "/*?[\\\x00") {
		return fmt.Errorf("forget consoles of %q: %w", prefix, ErrBadName)
	}
	paths, err := filepath.Glob(before + prefix + "*.log*")
	if err != nil {
		return fmt.Errorf("forget consoles of %s: %w", prefix, err)
	}
	for _, p := range paths {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("forget consoles of %s: %w", prefix, err)
		}
	}
	return nil
}

func consolePath(dir, name string) (string, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return "", fmt.Errorf("find console of %q: %w", name, ErrBadName)
	}
	return filepath.Join(dir, "guest-"+name+".log"), nil
}

func readConsole(dir, name string, limit int64) ([]byte, error) {
	path, err := consolePath(dir, name)
	if err != nil {
		return nil, err
	}
	limit = min(max(limit, 0), ConsoleLimit)
	text, err := tail(path, limit)
	if err != nil {
		return nil, fmt.Errorf("read console of %s: %w", name, err)
	}
	if rest := limit - int64(len(text)); rest > 0 {
		older, err := tail(path+".1", rest)
		if err != nil {
			return nil, fmt.Errorf("read console of %s: %w", name, err)
		}
		text = append(older, text...)
	}
	return text, nil
}

func forgetConsole(dir, name string) error {
	path, err := consolePath(dir, name)
	if err != nil {
		return err
	}
	for _, p := range []string{path, path + ".1"} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("forget console of %s: %w", name, err)
		}
	}
	return nil
}

// watchConsoles keeps every console log within its limit.
func watchConsoles(ctx context.Context, log *slog.Logger) error {
	return every(ctx, consolePeriod, func() error {
		if err := errors.Join(boundConsoles(consoleDir, ConsoleLimit), boundTotal(consoleDir, consolesLimit)); err != nil {
			log.Error("console logs not bounded", "err", err)
		}
		return nil
	})
}

// boundConsoles moves what is in each log that is over an eighth of the limit into a second file, of which the newest part is kept, and
// empties the first in place: xenconsoled and device models hold it open and append (tools/console/daemon/io.c, O_APPEND).
func boundConsoles(dir string, limit int64) error {
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return fmt.Errorf("list console logs: %w", err)
	}
	var errs []error
	fresh := limit / freshShare
	for _, path := range logs {
		info, err := os.Stat(path)
		if err != nil || info.Size() <= fresh {
			continue
		}
		text, err := tail(path, limit-fresh)
		if err == nil && int64(len(text)) < limit-fresh {
			older, olderErr := tail(path+".1", limit-fresh-int64(len(text)))
			text, err = append(older, text...), olderErr
		}
		if err == nil {
			err = os.WriteFile(path+".1", text, 0o600)
		}
		// Emptied even if it could not be kept: the bound comes first.
		errs = append(errs, err, os.Truncate(path, 0))
	}
	return errors.Join(errs...)
}

// boundTotal empties logs, those written least recently first, until all together hold at most limit bytes. A log is emptied in place
// and not removed: xenconsoled may have it open, and what it wrote then would take memory that nobody sees.
func boundTotal(dir string, limit int64) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.log*"))
	if err != nil {
		return fmt.Errorf("list console logs: %w", err)
	}
	type file struct {
		path string
		info os.FileInfo
	}
	var files []file
	var total int64
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && info.Size() > 0 {
			files = append(files, file{path, info})
			total += info.Size()
		}
	}
	slices.SortFunc(files, func(a, b file) int { return a.info.ModTime().Compare(b.info.ModTime()) })
	var errs []error
	for _, f := range files {
		if total <= limit {
			break
		}
		if strings.HasSuffix(f.path, ".1") { // only we write it
			errs = append(errs, os.Remove(f.path))
		} else {
			errs = append(errs, os.Truncate(f.path, 0))
		}
		total -= f.info.Size()
	}
	return errors.Join(errs...)
}

// tail returns the last limit bytes of a file; one that does not exist is empty.
func tail(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	text := make([]byte, min(limit, size))
	n, err := f.ReadAt(text, size-int64(len(text)))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return text[:n], nil
}

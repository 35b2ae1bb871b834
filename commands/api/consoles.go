package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

// Limits of what is kept of consoles.
const (
	ConsoleAge   = 30 * 24 * time.Hour // then the end of a console is forgotten
	consoleRoom  = 64 << 20            // bytes of one machine's; beyond them its oldest are dropped
	consoleSweep = time.Hour           // between two looks at what is too old
)

// ErrNoConsole says that nothing is kept under a digest, or not any more.
var ErrNoConsole = errors.New("the end of this console is not kept")

// Consoles keeps the ends of consoles that machines sent with the ends of run grants: files <machine>/<sha256>, outside the log since guests
// print what they like, and not for ever. Its methods may be called from several goroutines of one process.
type Consoles struct {
	dir string
	now func() time.Time

	mu    sync.Mutex
	swept time.Time
}

// OpenConsoles opens the directory and makes it if needed.
func OpenConsoles(dir string) (*Consoles, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open consoles: %w", err)
	}
	return &Consoles{dir: dir, now: time.Now}, nil
}

// Put keeps text for a machine. What is kept already is as young as new again.
func (c *Consoles) Put(m events.MachineID, text []byte) (events.Blob, error) {
	sum := sha256.Sum256(text)
	b := events.Blob{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(text))}
	dir := filepath.Join(c.dir, filepath.Base(string(m)))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetOld()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return b, fmt.Errorf("keep console: %w", err)
	}
	path := filepath.Join(dir, b.SHA256)
	if err := errors.Join(os.WriteFile(path+".tmp", text, 0o600), os.Rename(path+".tmp", path)); err != nil {
		return b, fmt.Errorf("keep console: %w", err)
	}
	return b, c.bound(dir)
}

// Get gives what has a digest, checked against it.
func (c *Consoles) Get(b events.Blob) ([]byte, error) {
	paths, err := filepath.Glob(filepath.Join(c.dir, "*", filepath.Base(b.SHA256)))
	if err != nil {
		return nil, fmt.Errorf("find console: %w", err)
	}
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil || c.now().Sub(info.ModTime()) > ConsoleAge {
			continue
		}
		text, err := os.ReadFile(p)
		if sum := sha256.Sum256(text); err == nil && hex.EncodeToString(sum[:]) == b.SHA256 {
			return text, nil
		}
	}
	return nil, ErrNoConsole
}

type keptFile struct {
	path string
	size int64
	age  time.Time
}

func filesIn(pattern string) []keptFile {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil
	}
	var out []keptFile
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
			out = append(out, keptFile{p, info.Size(), info.ModTime()})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].age.Before(out[j].age) })
	return out
}

// bound drops the oldest files of one machine until the rest have room.
func (c *Consoles) bound(dir string) error {
	all := filesIn(filepath.Join(dir, "*"))
	var total int64
	for _, f := range all {
		total += f.size
	}
	for _, f := range all {
		if total <= consoleRoom {
			break
		}
		if err := os.Remove(f.path); err != nil {
			return fmt.Errorf("drop the oldest console: %w", err)
		}
		total -= f.size
	}
	return nil
}

// forgetOld removes what is too old, of all machines. What cannot be removed now is tried again.
func (c *Consoles) forgetOld() {
	if c.now().Sub(c.swept) < consoleSweep {
		return
	}
	c.swept = c.now()
	for _, f := range filesIn(filepath.Join(c.dir, "*", "*")) {
		if c.now().Sub(f.age) > ConsoleAge {
			_ = os.Remove(f.path)
		}
	}
}

// takeConsole keeps the end of a console that a machine sends before the report that names it. It is not decided on, and not in the log.
func (s *Service) takeConsole(_ context.Context, m *nats.Msg) any {
	machine, answer, ok := s.sender(m)
	if !ok {
		return answer
	}
	var t events.ConsoleTail
	if err := strict(m.Data, &t); err != nil {
		return events.Answer{Outcome: refusal(events.CodeInvalid, "%v", err)}
	}
	if len(t.Data) < 1 || len(t.Data) > events.MaxConsoleTail {
		return events.Answer{Outcome: refusal(events.CodeInvalid, "field \"data\": want 1 to %d bytes", events.MaxConsoleTail)}
	}
	if s.cfg.Consoles == nil {
		return events.Answer{Outcome: refusal(events.CodeUnavailable, "this server keeps no consoles")}
	}
	if _, err := s.cfg.Consoles.Put(machine, t.Data); err != nil {
		s.cfg.Log.Error("console not kept", "machine", machine, "err", err)
		return events.Answer{Outcome: refusal(events.CodeUnavailable, "the console could not be kept")}
	}
	return events.Answer{Outcome: events.Outcome{Status: events.Accepted}}
}

// lastRun gives the end of what a VM printed under its last grant that ended.
func (s *Service) lastRun(row []byte, r wire.ConsoleRequest) wire.ConsoleAnswer {
	var vm struct {
		ID     events.VMID `json:"id"`
		SHA256 *string     `json:"console_sha256"`
		Size   *int64      `json:"console_size"`
		At     *time.Time  `json:"console_at"`
	}
	if err := json.Unmarshal(row, &vm); err != nil {
		return consoleError(r.VM, refusal(events.CodeUnavailable, "the VM could not be looked up"))
	}
	if vm.SHA256 == nil || vm.Size == nil || s.cfg.Consoles == nil {
		return consoleError(vm.ID, refusal(events.CodeNotFound, "no console is known of an earlier run of this VM: it printed nothing, or its host could not tell"))
	}
	text, err := s.cfg.Consoles.Get(events.Blob{SHA256: *vm.SHA256, Size: *vm.Size})
	if err != nil {
		return consoleError(vm.ID, refusal(events.CodeNotFound, "the end of its console (%d bytes) is not kept any more, or on another server: it is kept for %d days", *vm.Size, int(ConsoleAge.Hours()/24)))
	}
	return wire.ConsoleAnswer{VM: vm.ID, Data: text[max(0, len(text)-r.Bytes):], Ended: vm.At}
}

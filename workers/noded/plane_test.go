package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/broker"
	"cloudengine/events/broker/certs"
	"cloudengine/events/desired"
	"cloudengine/workers/boot"
	"cloudengine/workers/workertest"
)

// TestMain lets the test binary be the agent, so that it can be killed as a process.
func TestMain(m *testing.M) {
	if os.Getenv("CE_TEST_NODED") == "1" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const token = "dG9rZW4tb2YtdGhlLXRlc3Q"

// plane is a control plane of a real bus and answers that a test writes.
type plane struct {
	t       *testing.T
	srv     *broker.Server
	conn    *nats.Conn
	js      jetstream.JetStream
	machine events.MachineID
	boot    string
	dir     string

	mu      sync.Mutex
	key     string
	enrols  int
	reports []events.Report
	number  uint64
}

// UserByKey knows nobody.
func (p *plane) UserByKey(string) (broker.User, bool) { return broker.User{}, false }

// MachineByKey knows the machine that has enrolled.
func (p *plane) MachineByKey(key string) (broker.Machine, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return broker.Machine{ID: p.machine, Boot: p.boot}, p.key != "" && key == p.key
}

// TokenServed knows the one token.
func (p *plane) TokenServed(m events.MachineID, digest string) bool {
	sum := sha256.Sum256([]byte(token))
	return m == p.machine && digest == hex.EncodeToString(sum[:])
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	authority, err := certs.Create(t.TempDir())
	must(t, err)
	shown, err := certs.NewServer(authority, nil, nil)
	must(t, err)
	srv, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), UnsafeNoFsync: true, TLS: shown})
	must(t, err)
	t.Cleanup(srv.Shutdown)
	p := &plane{t: t, srv: srv, machine: events.MachineID(uuid.NewString()), boot: uuid.NewString(), dir: t.TempDir(), number: 100}
	p.conn, err = srv.Connect("test")
	must(t, err)
	p.js, err = jetstream.New(p.conn)
	must(t, err)
	p.serve("rep.*.enrol", p.enrol)
	p.serve("rep.*.state", p.state)
	srv.Open(p)
	must(t, writeJSON(p.path("boot.json"), boot.Config{
		Machine: string(p.machine), Name: "host1", Token: token, Bus: []string{srv.ClientURL()}, CA: string(authority.Roots()), HTTP: "http://127.0.0.1:1", Image: "test",
	}))
	return p
}

func (p *plane) path(name string) string { return filepath.Join(p.dir, name) }

func (p *plane) serve(subject string, answer func([]byte) events.Outcome) {
	_, err := p.conn.Subscribe(subject, func(m *nats.Msg) {
		b, err := json.Marshal(events.Answer{Outcome: answer(m.Data)})
		if err == nil {
			err = m.Respond(b)
		}
		if err != nil {
			p.t.Errorf("answer %s: %v", subject, err)
		}
	})
	must(p.t, err)
}

func (p *plane) enrol(b []byte) events.Outcome {
	var e events.Enrol
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := json.Unmarshal(b, &e); err != nil || e.Boot != p.boot || e.Token != token || e.Inventory.Capacity == nil || p.key != "" && p.key != e.Key {
		return events.Outcome{Status: events.Refused, Code: events.CodeInvalid, Message: string(b)}
	}
	p.enrols++
	p.key = e.Key
	return events.Outcome{Status: events.Accepted}
}

func (p *plane) state(b []byte) events.Outcome {
	var r events.Report
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := json.Unmarshal(b, &r); err != nil {
		return events.Outcome{Status: events.Refused, Code: events.CodeInvalid}
	}
	if n := len(p.reports); n > 0 && r.Counter < p.reports[n-1].Counter {
		p.t.Errorf("counter %d after %d", r.Counter, p.reports[n-1].Counter)
	}
	p.reports = append(p.reports, r)
	return events.Outcome{Status: events.Nothing}
}

// want publishes a document under the next generation.
func (p *plane) want(d desired.Domain) {
	p.t.Helper()
	p.mu.Lock()
	p.number++
	n := p.number
	p.mu.Unlock()
	body, err := json.Marshal(d)
	must(p.t, err)
	doc, err := json.Marshal(desired.Document{
		Version: desired.Version, Machine: p.machine, Boot: p.boot, Kind: desired.KindDomain, ID: string(d.VM),
		Generation: events.Generation{Term: 1, Number: n}, Body: body,
	})
	must(p.t, err)
	_, err = p.js.Publish(p.t.Context(), events.DesiredSubject(p.machine, desired.KindDomain, string(d.VM)), doc)
	must(p.t, err)
}

// seen says whether a report since the first n fits.
func (p *plane) seen(n int, fits func(events.Report) bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.reports[n:] {
		if fits(r) {
			return true
		}
	}
	return false
}

func (p *plane) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.reports)
}

func (p *plane) eventually(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	b, _ := os.ReadFile(p.path("log"))
	p.t.Fatalf("not within 20 s: %s\n%s\n%s", what, p.model(), b)
}

// start runs the agent as a process of its own.
func (p *plane) start() *exec.Cmd { return p.startWith("--state", p.path("state.json")) }

func (p *plane) startWith(flags ...string) *exec.Cmd {
	p.t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"--config", p.path("boot.json"), "--runner", "recording", "--boot-id", p.boot,
		"--run", p.path("run"), "--record", p.path("record"), "--interval", "200ms", "-v"}, flags...)...)
	cmd.Env = append(os.Environ(), "CE_TEST_NODED=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(p.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(p.t, err)
	defer log.Close()
	cmd.Stderr = log
	must(p.t, cmd.Start())
	p.t.Cleanup(func() { kill(cmd) })
	return cmd
}

func kill(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// model reads what the modelled host holds.
func (p *plane) model() *workertest.Host {
	var m workertest.Machine
	b, err := os.ReadFile(p.path("state.json"))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return workertest.NewHost(0)
	}
	return workertest.Restore(m)
}

// states lists the domains of a VM in the model.
func (p *plane) states(vm events.VMID) []string {
	all, err := p.model().List(context.Background())
	must(p.t, err)
	var out []string
	for _, d := range all {
		if d.UUID == string(vm) {
			out = append(out, d.State)
		}
	}
	return out
}

func (p *plane) runsOnce(vm events.VMID) bool {
	s := p.states(vm)
	return len(s) == 1 && s[0] == events.DomainRunning
}

func (p *plane) ended(vm events.VMID) func(events.Report) bool {
	return func(r events.Report) bool {
		for _, e := range r.Ended {
			if e.VM == vm {
				return true
			}
		}
		return false
	}
}

func (p *plane) reported(vm events.VMID, state string) func(events.Report) bool {
	return func(r events.Report) bool {
		for _, d := range r.Domains {
			if d.VM == vm && d.State == state {
				return true
			}
		}
		return false
	}
}

// calls gives the times of the recorded calls that begin with a word.
func (p *plane) calls(word string) map[string]time.Time {
	out := map[string]time.Time{}
	f, err := os.Open(p.path("record"))
	must(p.t, err)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var c struct {
			Time time.Time
			Call string
		}
		if json.Unmarshal(lines.Bytes(), &c) == nil && strings.HasPrefix(c.Call, word) {
			out[c.Call] = c.Time
		}
	}
	return out
}

func domain(vm events.VMID, want string, epoch uint64) desired.Domain {
	return desired.Domain{
		VM: vm, Name: "web", Want: want, Epoch: events.Epoch{Term: 1, Counter: epoch}, Type: events.TypePV, VCPUs: 1, MemoryMiB: 16, Weight: 1,
		Kernel: events.Blob{SHA256: strings.Repeat("a", 64), Size: 1},
	}
}

func newVM() events.VMID { return events.VMID(uuid.Must(uuid.NewV7()).String()) }

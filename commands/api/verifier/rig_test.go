package verifier_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nkeys"

	"cloudengine/commands"
	"cloudengine/commands/api"
	"cloudengine/commands/api/verifier"
	"cloudengine/commands/api/wire"
	"cloudengine/commands/dispatch"
	"cloudengine/commands/dispatch/plane"
	"cloudengine/events"
	"cloudengine/events/broker"
	"cloudengine/projections/desired"
	"cloudengine/projections/follow"
	"cloudengine/projections/mysql"
	"cloudengine/projections/verify"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB) string {
	t.Helper()
	pair, err := nkeys.CreateUser()
	must(t, err)
	key, err := pair.PublicKey()
	must(t, err)
	return key
}

// rig is a real control plane: bus, log, dispatcher, MariaDB and documents; its hosts are modelled, with the agents' real loop.
type rig struct {
	t         *testing.T
	plane     *plane.Plane
	db        *mysql.Database
	projector *mysql.Projector
	blobs     *api.Blobs
	blobDir   string
	secrets   *api.Secrets
	secretDir string
	kernel    events.Blob
	ids       map[string]string
	hosts     map[string]*agent
	verifier  *verifier.Verifier

	mu     sync.Mutex
	powers map[string]string // what BMCs say, by machine id; "": no answer
	asked  func(id events.MachineID, a wire.InspectAnswer) (wire.InspectAnswer, error)
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, ids: map[string]string{}, hosts: map[string]*agent{}, powers: map[string]string{}, blobDir: t.TempDir(), secretDir: t.TempDir()}
	quiet := slog.New(slog.DiscardHandler)
	var err error
	r.db, err = mysql.Open(t.Context(), mysql.Config{Dir: t.TempDir(), Log: quiet})
	must(t, err)
	t.Cleanup(func() { _ = r.db.Close() })
	r.blobs, err = api.OpenBlobs(r.blobDir)
	must(t, err)
	r.secrets, err = api.OpenSecrets(r.secretDir, filepath.Join(t.TempDir(), "master.key"))
	must(t, err)
	var publisher *desired.Publisher
	r.plane, err = plane.Start(t.Context(), plane.Options{
		Bus: broker.Options{Dir: t.TempDir(), UnsafeNoFsync: true, UnsafePlain: true}, Logger: quiet, Dispatch: dispatch.Options{AdminKey: newKey(t), Silence: time.Hour},
	}, func(p *plane.Plane) error {
		publisher = desired.NewPublisher(p.JS, p.Dispatch.Active, quiet)
		p.Dispatch.OnApplied(publisher.Apply)
		return nil
	})
	must(t, err)
	t.Cleanup(r.plane.Stop)
	r.eventually("the server decides", func() (bool, string) { return r.plane.Dispatch.Active() && r.plane.Dispatch.Applied() >= 2, "not yet" })
	log := follow.New(r.plane.JS)
	r.projector = mysql.NewProjector(r.db.DB, quiet)
	r.run(func(ctx context.Context) error { return r.projector.Run(ctx, log) })
	r.run(func(ctx context.Context) error { return publisher.Run(ctx, log) })
	r.verifier = verifier.New(r.config())
	return r
}

// run runs a part until the end of the test. That it fails is the business of tests that make it fail.
func (r *rig) run(part func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = part(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	r.t.Cleanup(stop)
	return stop
}

func (r *rig) config() verifier.Config {
	return verifier.Config{
		Log:       r.plane.Journal,
		Database:  func(ctx context.Context) (verifier.Database, error) { return mysql.OpenSnapshot(ctx, r.db.DB) },
		Documents: func(ctx context.Context) (map[string][]byte, error) { return desired.Published(ctx, r.plane.JS) },
		Ask:       r.ask, AskStorage: r.ask, AskNetworks: r.ask, Blob: r.blobs.Check, Secret: r.secrets.Check,
		Power: func(_ context.Context, m events.MachineID) (string, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if s := r.powers[string(m)]; s != "" {
				return s, nil
			}
			return "", errors.New("no answer")
		},
		Pause: 10 * time.Millisecond, AskTime: 5 * time.Second, Behind: time.Second,
	}
}

// ask asks a modelled host, over JSON as the bus does.
func (r *rig) ask(ctx context.Context, m events.MachineID) (a wire.InspectAnswer, err error) {
	for _, h := range r.hosts {
		if h.id != m {
			continue
		}
		raw, err := json.Marshal(h.inspect(ctx))
		if err != nil {
			return a, err
		}
		if err := json.Unmarshal(raw, &a); err != nil {
			return a, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked != nil {
		return r.asked(m, a)
	}
	return a, nil
}

func (r *rig) as(actor, verb string, args any) events.Answer {
	r.t.Helper()
	raw, err := json.Marshal(args)
	must(r.t, err)
	kind, v, _ := strings.Cut(verb, ".")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	a, err := r.plane.Dispatch.Submit(ctx, commands.Command{Intent: events.IntentID(uuid.Must(uuid.NewV7()).String()), Actor: actor, Kind: events.Kind(kind), Verb: v, Args: raw}, false)
	must(r.t, err)
	return a
}

func (r *rig) do(verb string, args any) string {
	r.t.Helper()
	a := r.as("admin", verb, args)
	if a.Outcome.Status != events.Accepted {
		r.t.Fatalf("%s: %+v", verb, a.Outcome)
	}
	return string(a.ID)
}

// furnish makes an account, a template with its file, a secret, and hosts.
func (r *rig) furnish(hosts ...string) {
	r.t.Helper()
	data := []byte("a kernel for " + r.t.Name())
	sum := sha256.Sum256(data)
	r.kernel = events.Blob{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data))}
	if _, done, err := r.blobs.Write(r.kernel.SHA256, r.kernel.Size, 0, data); err != nil || !done {
		r.t.Fatalf("store the kernel: %t %v", done, err)
	}
	fingerprint, err := r.secrets.Seal("bmc", []byte("geheim"))
	must(r.t, err)
	r.ids["bmc"] = r.do("secret.set", commands.SetSecret{Name: "bmc", Fingerprint: fingerprint})
	must(r.t, r.secrets.Use("bmc", fingerprint))
	r.ids["demo"] = r.do("account.create", commands.CreateAccount{Name: "demo"})
	r.ids["guest"] = r.do("template.create", commands.CreateTemplate{Name: "guest", Type: "kernel", Kernel: r.kernel, MinMemory: 16})
	for i, name := range hosts {
		r.ids[name] = r.do("machine.add", commands.AddMachine{
			Name: name, MACs: []string{fmt.Sprintf("52:54:00:00:00:%02x", i+1)}, Roles: []string{events.RoleHost},
			BMC: &events.BMC{Address: fmt.Sprintf("10.77.1.%d:623", i+1), User: "admin", Secret: "bmc"},
		})
		r.powers[r.ids[name]] = events.PowerIsOn
		r.hosts[name] = newAgent(r, name)
	}
}

func (r *rig) vm(name, host string, running bool) {
	r.t.Helper()
	r.ids[name] = r.do("vm.create", commands.CreateVM{Account: events.AccountID(r.ids["demo"]), Name: name, Type: "pv", VCPUs: 1, MemoryMiB: 64, Template: events.TemplateID(r.ids["guest"])})
	if !running {
		return
	}
	r.do("vm.start", commands.StartVM{VM: events.VMID(r.ids[name]), Host: events.MachineID(r.ids[host])})
	r.eventually(name+" runs", func() (bool, string) { return r.is(name, "running") })
}

// is says whether the read model says so.
func (r *rig) is(vm, state string) (bool, string) {
	var have string
	err := r.db.DB.QueryRow("SELECT state FROM vms WHERE id = ?", r.ids[vm]).Scan(&have)
	return err == nil && have == state, fmt.Sprint(have, err)
}

func (r *rig) eventually(what string, ok func() (bool, string)) {
	r.t.Helper()
	last := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		done, said := ok()
		if done {
			return
		}
		last = said
	}
	r.t.Fatalf("not within 20 s: %s; last: %s", what, last)
}

var everything = append(append([]string{}, verifier.Default...), verify.Power)

// verify verifies everything. What is found is in the answer.
func (r *rig) verify() wire.CloudVerifyAnswer {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a, err := r.verifier.Run(ctx, everything)
	must(r.t, err)
	if len(a.Sections) != len(everything) {
		r.t.Fatalf("%d sections: %+v", len(a.Sections), a.Sections)
	}
	return a
}

// clean waits until nothing is found.
func (r *rig) clean() {
	r.t.Helper()
	r.eventually("nothing is found", func() (bool, string) {
		a := r.verify()
		return a.Clean && len(a.Findings) == 0, describe(a)
	})
}

func describe(a wire.CloudVerifyAnswer) string {
	var b strings.Builder
	for _, f := range a.Findings {
		fmt.Fprintf(&b, "\n%s %s %s (%s): %s; want %s, have %s %s", f.Severity, f.Check, f.Object(), f.ID, f.What, f.Want, f.Have, f.Moving)
	}
	return b.String()
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

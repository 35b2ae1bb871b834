package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloudengine/bootimage"
	"cloudengine/commands/api/client"

	"github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets scripts run this program as "cloudengine".
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cloudengine": main})
}

// The scripts in testdata/script run the real program: a real bus, a real MariaDB, files on a real disk. Commands of their own:
//
//	serve [FLAG…]             start "cloudengine serve" on free ports of loopback, wait until it is ready, and set the environment
//	stopserve [kill]          stop it with SIGTERM, which must succeed, or with SIGKILL
//	request SUBJECT FILE      send FILE's bytes over the bus as the user of the key, and print the answer ("!": expect none)
//	noded NAME MAC BOOT       fetch MAC's boot files as a machine does and start the agent with a modelled host (kill: end it)
//	idof VAR KIND NAME ARG…   set a variable to the id of an object
//	decided VAR ARG…          run cloudengine with these arguments, and set a variable to the number of the decision that it tells
//	image DIR [WORD…]         make a boot image that nothing can boot; with other words another version
//	fetch PATH                ask the boot service as a machine does, and print the answer
//	intent VAR ARG…           run cloudengine with these arguments, and set a variable to the id of the intent that it tells
//	exitcode N ARG…           run cloudengine with these arguments, which must exit with N
//	eventually COMMAND…       repeat a cloudengine command until its standard output has the text before "--": TEXT -- COMMAND…
//	sql STATEMENT…            send statements to the server's MariaDB, and print the first column of what they give
//	metric NAME VALUE         wait until a metric of the server has a value
//	disk FILE MIB             make the image of a disk
//	publish URL DIGEST FILE   serve a file by HTTP, and set variables to its URL and its SHA-256
//	env-parked VAR            set a variable to the id of the first parked object
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			l := &lab{env: e, dir: e.WorkDir}
			e.Values["lab"] = l
			e.Defer(l.close)
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "config"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"serve":      func(ts *testscript.TestScript, _ bool, args []string) { labOf(ts).serve(ts, args) },
			"stopserve":  func(ts *testscript.TestScript, _ bool, args []string) { labOf(ts).stopServe(ts, len(args) > 0) },
			"request":    func(ts *testscript.TestScript, neg bool, args []string) { labOf(ts).request(ts, neg, args) },
			"image":      func(ts *testscript.TestScript, _ bool, args []string) { fakeImage(ts, args[0], args[1:]) },
			"fetch":      func(ts *testscript.TestScript, _ bool, args []string) { fetch(ts, args) },
			"noded":      func(ts *testscript.TestScript, _ bool, args []string) { labOf(ts).noded(ts, args) },
			"idof":       func(ts *testscript.TestScript, _ bool, args []string) { idOf(ts, args) },
			"decided":    func(ts *testscript.TestScript, _ bool, args []string) { decided(ts, args) },
			"intent":     func(ts *testscript.TestScript, _ bool, args []string) { intentOf(ts, args) },
			"exitcode":   func(ts *testscript.TestScript, _ bool, args []string) { exitsWith(ts, args) },
			"eventually": func(ts *testscript.TestScript, _ bool, args []string) { eventually(ts, args) },
			"sql":        func(ts *testscript.TestScript, _ bool, args []string) { labOf(ts).sql(ts, args) },
			"disk":       func(ts *testscript.TestScript, _ bool, args []string) { fakeDisk(ts, args) },
			"publish":    func(ts *testscript.TestScript, _ bool, args []string) { publish(ts, args) },
			"metric":     func(ts *testscript.TestScript, _ bool, args []string) { labOf(ts).metric(ts, args[0], args[1]) },
			"env-parked": func(ts *testscript.TestScript, _ bool, args []string) { envParked(ts, args[0]) },
			"tamper":     func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(tamper(ts, args)) },
		},
	})
}

// lab holds what one script has started.
type lab struct {
	env    *testscript.Env
	dir    string
	server *process
	http   string
	agents map[string]*process
}

func labOf(ts *testscript.TestScript) *lab { return ts.Value("lab").(*lab) }

// process is a child that is waited for.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
}

func start(cmd *exec.Cmd, log string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	go func() { p.err = cmd.Wait(); close(p.done) }()
	return p, nil
}

// end sends a signal and waits until the process is gone.
func (p *process) end(sig os.Signal) error {
	_ = p.cmd.Process.Signal(sig) // it may be gone already
	select {
	case <-p.done:
		return p.err
	case <-time.After(40 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("it did not end after %v:\n%s", sig, lastLines(p.log, 40))
	}
}

func (l *lab) close() {
	for _, a := range l.agents {
		_ = a.end(syscall.SIGKILL)
	}
	if l.server != nil {
		_ = l.server.end(syscall.SIGTERM)
	}
}

func (l *lab) serve(ts *testscript.TestScript, args []string) {
	data := filepath.Join(l.dir, "data")
	ts.Check(removeIfThere(filepath.Join(data, endpointsFile)))
	program, err := exec.LookPath("cloudengine")
	ts.Check(err)
	cmd := exec.Command(program, append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"}, args...)...)
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), "HOME="+l.dir)
	l.server, err = start(cmd, filepath.Join(l.dir, "serve.log"))
	ts.Check(err)
	var where struct{ Bus, HTTP string }
	for end := time.Now().Add(60 * time.Second); ; {
		raw, err := os.ReadFile(filepath.Join(data, endpointsFile))
		if err == nil && json.Unmarshal(raw, &where) == nil {
			break
		}
		select {
		case <-l.server.done:
			ts.Fatalf("serve ended:\n%s", lastLines(l.server.log, 40))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			ts.Fatalf("serve is not ready:\n%s", lastLines(l.server.log, 40))
		}
	}
	l.http = where.HTTP
	ts.Setenv("CLOUDENGINE_SERVER", where.Bus)
	ts.Setenv("CLOUDENGINE_NKEY", filepath.Join(data, adminKeyFile))
	ts.Setenv("HTTP", where.HTTP)
}

func (l *lab) stopServe(ts *testscript.TestScript, kill bool) {
	if kill {
		_ = l.server.end(syscall.SIGKILL)
	} else if err := l.server.end(syscall.SIGTERM); err != nil {
		ts.Fatalf("serve: %v\n%s", err, lastLines(l.server.log, 40))
	}
	l.server = nil
}

// request speaks to the bus with nats.go alone.
func (l *lab) request(ts *testscript.TestScript, neg bool, args []string) {
	body := []byte(os.Expand(ts.ReadFile(args[1]), ts.Getenv))
	for _, word := range args[2:] { // repeat=N makes large bodies, bytes=XX raw ones
		if n := 0; strings.HasPrefix(word, "repeat=") {
			if _, err := fmt.Sscanf(word, "repeat=%d", &n); err != nil {
				ts.Fatalf("%s: %v", word, err)
			}
			body = bytes.Repeat(body, n)
		} else if word == "latin1" {
			body = bytes.ReplaceAll(body, []byte("ä"), []byte{0xe4})
		}
	}
	c, err := client.Connect(context.Background(), ts.Getenv("CLOUDENGINE_SERVER"), ts.MkAbs(ts.Getenv("CLOUDENGINE_NKEY")), nats.NoReconnect(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	ts.Check(err)
	defer c.Close()
	wait := 10 * time.Second
	if neg {
		wait = 500 * time.Millisecond
	}
	answer, err := c.Conn().Request(args[0], body, wait)
	switch {
	case neg && err == nil:
		ts.Fatalf("%s was answered: %s", args[0], answer.Data)
	case neg:
		fmt.Fprintln(ts.Stdout(), "no answer:", err, c.Conn().LastError())
	case err != nil:
		ts.Fatalf("%s: %v", args[0], err)
	default:
		fmt.Fprintf(ts.Stdout(), "%s\n", answer.Data)
	}
}

func idOf(ts *testscript.TestScript, args []string) {
	ts.Check(ts.Exec("cloudengine", append([]string{args[1], "show", args[2], "-o", "json"}, args[3:]...)...))
	var r struct{ ID string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &r))
	ts.Setenv(args[0], r.ID)
}

func decided(ts *testscript.TestScript, args []string) {
	ts.Check(ts.Exec("cloudengine", args[1:]...))
	_, number, _ := strings.Cut(ts.ReadFile("stderr"), "as decision ")
	number, _, _ = strings.Cut(number, "\n")
	if number == "" {
		ts.Fatalf("no decision was told")
	}
	ts.Setenv(args[0], number)
}

// intentOf does not mind if the intent is refused.
func intentOf(ts *testscript.TestScript, args []string) {
	_ = ts.Exec("cloudengine", args[1:]...)
	_, id, _ := strings.Cut(ts.ReadFile("stderr"), "intent ")
	id, _, _ = strings.Cut(id, "\n")
	if id == "" {
		ts.Fatalf("no intent was told")
	}
	ts.Setenv(args[0], id)
}

func exitsWith(ts *testscript.TestScript, args []string) {
	err := ts.Exec("cloudengine", args[1:]...)
	var exit *exec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s: %s", code, args[0], ts.ReadFile("stderr"))
	}
}

// eventually repeats a command until its output has a text.
func eventually(ts *testscript.TestScript, args []string) {
	if len(args) < 3 || args[1] != "--" {
		ts.Fatalf("usage: eventually TEXT -- COMMAND…")
	}
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if err = ts.Exec(args[2], args[3:]...); err == nil && strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	ts.Fatalf("%q does not come: %v\n%s", args[0], err, ts.ReadFile("stdout"))
}

// fakeImage makes a boot image that nothing can boot, but that the boot service serves.
func fakeImage(ts *testscript.TestScript, name string, words []string) {
	dir := ts.MkAbs(name)
	ts.Check(os.MkdirAll(dir, 0o755))
	m := bootimage.Manifest{Kernel: "6.1-test", Packages: []bootimage.Package{}, Tools: []bootimage.Tool{{Name: "go", Version: strings.Join(append(words, "1"), " ")}}}
	for _, name := range []string{bootimage.XenFile, bootimage.KernelFile, bootimage.InitrdFile} {
		body := []byte(name + " of a test, padded " + strings.Join(words, " "))
		body = append(body, make([]byte, 4-len(body)%4)...)
		ts.Check(os.WriteFile(filepath.Join(dir, name), body, 0o644))
		m.Parts = append(m.Parts, bootimage.Part{Name: name, Size: int64(len(body)), SHA256: fmt.Sprintf("%x", sha256.Sum256(body))})
	}
	ts.Check(m.Seal())
	raw, err := json.Marshal(m)
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(dir, bootimage.ManifestFile), raw, 0o644))
}

// fetch asks the boot service as a machine does, and prints the answer.
func fetch(ts *testscript.TestScript, args []string) {
	answer, err := http.Get(ts.Getenv("HTTP") + args[0])
	ts.Check(err)
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%s\n%s", answer.Status, raw)
}

// bootJSON fetches a machine's initramfs, as iPXE does, and takes boot.json out of the archive that is appended to it.
func bootJSON(web, mac string) ([]byte, error) {
	answer, err := http.Get(web + "/boot/" + mac + "/initrd.img")
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch boot files of %s: %s %s %w", mac, answer.Status, raw, err)
	}
	at := bytes.Index(raw, []byte(`{"machine"`))
	if at < 0 {
		return nil, fmt.Errorf("no boot.json in the %d bytes of the initramfs", len(raw))
	}
	var config json.RawMessage
	return config, json.NewDecoder(bytes.NewReader(raw[at:])).Decode(&config)
}

// agentProgram is the agent, built once.
var agentProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "noded")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "noded")
	cmd := exec.Command("go", "build", "-o", path, "cloudengine/workers/noded")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the agent: %w\n%s", err, out)
	}
	return path, nil
})

// noded boots a modelled host: noded NAME MAC BOOT, or noded NAME kill. With a boot id that it had before, the agent is started again
// in the same boot.
func (l *lab) noded(ts *testscript.TestScript, args []string) {
	name, dir := args[0], filepath.Join(l.dir, args[0])
	if old := l.agents[name]; old != nil {
		_ = old.end(syscall.SIGKILL)
		delete(l.agents, name)
	}
	if args[1] == "kill" {
		return
	}
	program, err := agentProgram()
	ts.Check(err)
	mac, boot := args[1], args[2]
	run := filepath.Join(dir, boot)
	config := filepath.Join(run, "boot.json")
	if _, err := os.Stat(config); err != nil { // a new boot
		ts.Check(os.MkdirAll(run, 0o700))
		raw, err := bootJSON(l.http, mac)
		ts.Check(err)
		ts.Check(os.WriteFile(config, raw, 0o600))
	}
	cmd := exec.Command(program, "--config", config, "--runner", "recording", "--boot-id", boot, "--run", run,
		"--state", filepath.Join(run, "xen.json"), "--interval", "1s", "--memory", "4096")
	p, err := start(cmd, filepath.Join(dir, "noded.log"))
	ts.Check(err)
	if l.agents == nil {
		l.agents = map[string]*process{}
	}
	l.agents[name] = p
	ts.Logf("agent %s, log %s", name, p.log)
}

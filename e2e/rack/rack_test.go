package rack_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloudengine/e2e/rack"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if code, is := rack.RunHelper(os.Args); is {
		os.Exit(code)
	}
	// With the race detector every helper would linger for a second at its end.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// mustRack brings up a rack of its own with one machine, which has nothing to boot, and takes it down at the end.
func mustRack(t *testing.T, change func(*rack.Config)) *rack.Rack {
	t.Helper()
	if _, err := exec.LookPath("ipmitool"); err != nil {
		t.Fatalf("%v (apt-get install ipmitool)", err)
	}
	cfg := rack.Config{
		Dir: filepath.Join(t.TempDir(), "rack"), Namespace: fmt.Sprintf("ce-test-%d", os.Getpid()), Hosts: 1, MemoryMiB: 512, CPUs: 1,
		Progress: func(line string) { t.Log(line) },
	}
	if change != nil {
		change(&cfg)
	}
	r, err := rack.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := r.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// ipmi runs ipmitool against the controller of host1, from inside the rack.
func ipmi(t *testing.T, r *rack.Rack, words ...string) (string, error) {
	t.Helper()
	m, err := r.Machine("host1")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ipmitool", append([]string{"-I", "lanplus", "-C", "3", "-N", "3", "-R", "4",
		"-H", m.BMC.String(), "-U", m.BMCUser, "-f", m.BMCPasswordFile}, words...)...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := r.Start(cmd); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	return strings.TrimSpace(out.String()), err
}

func mustPower(t *testing.T, r *rack.Rack, want string) {
	t.Helper()
	if got, err := ipmi(t, r, "chassis", "power", "status"); err != nil || got != "Chassis Power is "+want {
		t.Errorf("the controller says %q (%v), want %s", got, err, want)
	}
}

func TestPowerByIPMI(t *testing.T) {
	r := mustRack(t, nil)
	mustPower(t, r, "off")
	for _, step := range []struct {
		verb, want string
	}{{"on", "on"}, {"on", "on"}, {"cycle", "on"}, {"reset", "on"}, {"off", "off"}, {"off", "off"}, {"reset", "off"}, {"on", "on"}} {
		if out, err := ipmi(t, r, "chassis", "power", step.verb); err != nil {
			t.Fatalf("power %s: %v: %s", step.verb, err, out)
		}
		await(t, "power "+step.want+" after "+step.verb, func() bool {
			out, err := ipmi(t, r, "chassis", "power", "status")
			return err == nil && out == "Chassis Power is "+step.want
		})
	}
	if err := r.RestartBMC(t.Context(), "host1"); err != nil {
		t.Fatal(err)
	}
	mustPower(t, r, "on") // a controller's restart is not the machine's
	if err := r.Freeze("host1"); err != nil {
		t.Fatal(err)
	}
	mustPower(t, r, "on") // silent is not off
	if err := r.Thaw("host1"); err != nil {
		t.Fatal(err)
	}
	if err := r.Kill(t.Context(), "host1"); err != nil {
		t.Fatal(err)
	}
	mustPower(t, r, "off")
	if err := r.Freeze("host1"); !errors.Is(err, rack.ErrOff) {
		t.Errorf("freeze a machine that is off: %v", err)
	}
	lines, err := r.SerialTail("host1", 1000)
	if err != nil || !strings.Contains(strings.Join(lines, "\n"), "iPXE") {
		t.Errorf("the serial port says nothing of iPXE: %v, %q", err, lines)
	}
}

func TestControllerWantsItsPassword(t *testing.T) {
	r := mustRack(t, nil)
	m, err := r.Machine("host1")
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(m.BMCPasswordFile)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("password file: %v, %v", st.Mode(), err)
	}
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("0000000000000000"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, as := range [][]string{{"-U", m.BMCUser, "-f", wrong}, {"-U", "nobody", "-f", m.BMCPasswordFile}, {"-U", "", "-P", ""}} {
		cmd := exec.Command("ipmitool", append(append([]string{"-I", "lanplus", "-C", "3", "-N", "1", "-R", "1", "-H", m.BMC.String()}, as...),
			"chassis", "power", "on")...)
		if err := r.Start(cmd); err != nil {
			t.Fatal(err)
		}
		if cmd.Wait() == nil {
			t.Errorf("%v: the controller obeyed", as)
		}
	}
	mustPower(t, r, "off")
}

func TestUpAndDownAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	outside := l.Addr().String()
	l.Close()
	r := mustRack(t, func(c *rack.Config) { c.Forwards = []rack.Forward{{Listen: outside, Target: "10.77.0.1:7777"}} })
	if err := r.PowerOn("host1"); err != nil {
		t.Fatal(err)
	}
	other, err := rack.Open(r.Config().Dir) // as another process would
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Up(t.Context()); err != nil {
		t.Fatalf("up a second time: %v", err)
	}
	if on, err := other.IsOn("host1"); err != nil || !on {
		t.Errorf("the machine is on: %t, %v", on, err)
	}
	checkForward(t, r, outside)
	sleeper := exec.Command("sleep", "600")
	if err := other.Start(sleeper); err != nil {
		t.Fatal(err)
	}
	go func() { _ = sleeper.Wait() }()
	for range 2 {
		if err := other.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(r.NamespacePath()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the namespace is left: %v", err)
	}
	if unix.Kill(sleeper.Process.Pid, 0) == nil {
		await(t, "end of the process inside", func() bool { return unix.Kill(sleeper.Process.Pid, 0) != nil })
	}
	if _, err := net.DialTimeout("tcp", outside, time.Second); err == nil {
		t.Error("the forward is left")
	}
	if _, err := rack.Open(r.Config().Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("open a rack that is down: %v", err)
	}
	checkNothingRuns(t, r.Config().Dir)
}

func TestRackAfterItsDirectoryWasRemoved(t *testing.T) {
	r := mustRack(t, nil)
	if err := r.PowerOn("host1"); err != nil {
		t.Fatal(err)
	}
	cfg := r.Config()
	cfg.Dir = filepath.Join(t.TempDir(), "other")
	other, err := rack.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Up(t.Context()); err == nil {
		t.Error("two racks share a namespace")
	}
	if err := os.RemoveAll(r.Config().Dir); err != nil {
		t.Fatal(err)
	}
	if err := r.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustPower(t, r, "off")
}

func TestNamespaceThatWasLeftBehind(t *testing.T) {
	r := mustRack(t, nil)
	cfg := r.Config()
	pids, err := filepath.Glob(filepath.Join(cfg.Dir, "host1", "*.pid"))
	if err != nil || len(pids) == 0 {
		t.Fatalf("pid files of the rack: %v, %v", pids, err)
	}
	cfg.Dir = filepath.Join(t.TempDir(), "other")
	other, err := rack.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pids { // as when the computer's services were killed
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		await(t, "end of "+path, func() bool { return unix.Kill(pid, 0) != nil })
	}
	if err := other.Up(t.Context()); err != nil {
		t.Fatalf("up in a namespace in which nothing runs: %v", err)
	}
	if err := r.Down(t.Context()); err == nil {
		t.Error("the old rack was brought down in the new one's namespace")
	}
	if err := other.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func checkForward(t *testing.T, r *rack.Rack, outside string) {
	t.Helper()
	l, err := r.Listen(t.Context(), "10.77.0.1:7777")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		line, _ := bufio.NewReader(conn).ReadString('\n')
		fmt.Fprint(conn, "inside got ", line)
	}()
	var conn net.Conn
	if conn, err = net.Dial("tcp", outside); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintln(conn, "hello")
	if got, err := bufio.NewReader(conn).ReadString('\n'); got != "inside got hello\n" {
		t.Errorf("through the forward came %q, %v", got, err)
	}
}

// checkNothingRuns wants no process with the rack's directory in its command line.
func checkNothingRuns(t *testing.T, dir string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		if raw, err := os.ReadFile(path); err == nil && strings.Contains(string(raw), dir) {
			t.Errorf("left: %s: %q", path, raw)
		}
	}
}

func TestCutAndRestore(t *testing.T) {
	r := mustRack(t, nil)
	inBridge := func() bool {
		cmd := exec.Command("ip", "-o", "link", "show", "master", rack.BootBridge)
		var out strings.Builder
		cmd.Stdout = &out
		if err := r.Start(cmd); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(out.String(), "tap-host1")
	}
	for _, step := range []struct {
		name string
		do   func(string) error
		want bool
	}{{"cut", r.CutBus, false}, {"cut_again", r.CutBus, false}, {"restore", r.Restore, true}, {"restore_again", r.Restore, true}} {
		if err := step.do("host1"); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if inBridge() != step.want {
			t.Errorf("%s: in the bridge: %t", step.name, !step.want)
		}
	}
	for range 2 {
		if err := r.CutBMC("host1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ipmi(t, r, "chassis", "power", "status"); err == nil {
		t.Error("a controller without its address answers")
	}
	for range 2 {
		if err := r.RestoreBMC("host1"); err != nil {
			t.Fatal(err)
		}
	}
	mustPower(t, r, "off")
	if err := r.CutBus("host9"); !errors.Is(err, rack.ErrUnknownMachine) {
		t.Errorf("cut a machine that is not there: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, c := range map[string]rack.Config{
		"namespace": {Namespace: "../x"}, "hosts": {Hosts: 17}, "memory": {MemoryMiB: 1}, "negative": {Hosts: -1},
	} {
		if _, err := rack.New(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Errorf("%s does not come", what)
}

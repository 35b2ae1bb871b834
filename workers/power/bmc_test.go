package power

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
)

const testPassword = "s3cret-Passw0rd-20"

// bench is a BMC under test, and what a hand at the machine can see and do.
type bench struct {
	connect Connect
	target  Target
	set     func(on bool)
	isOn    func() bool
	pxe     func() bool
}

// bmcSuite is what every BMC must do.
func bmcSuite(t *testing.T, b bench) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	t.Run("power", func(t *testing.T) { b.powerSuite(t, ctx) })
	t.Run("session", func(t *testing.T) { b.sessionSuite(t, ctx) })
}

// visit opens a session for f.
func (b bench) visit(ctx context.Context, f func(BMC) error) error {
	s, err := b.connect(ctx, b.target)
	if err != nil {
		return err
	}
	return errors.Join(f(s), s.Close())
}

func (b bench) must(t *testing.T, ctx context.Context, f func(BMC) error) {
	t.Helper()
	if err := b.visit(ctx, f); err != nil {
		t.Fatal(err)
	}
}

func (b bench) reads(t *testing.T, ctx context.Context, want string) {
	t.Helper()
	b.must(t, ctx, func(s BMC) error {
		got, err := s.Status(ctx)
		if err == nil && got != want {
			err = fmt.Errorf("read %s, want %s", got, want)
		}
		return err
	})
}

func (b bench) powerSuite(t *testing.T, ctx context.Context) {
	t.Run("begins_off", func(t *testing.T) { b.reads(t, ctx, events.PowerIsOff) })
	t.Run("on_twice", func(t *testing.T) {
		for range 2 {
			b.must(t, ctx, func(s BMC) error { return errors.Join(s.SetBootPXE(ctx), s.On(ctx)) })
			b.reads(t, ctx, events.PowerIsOn)
		}
		if !b.isOn() || !b.pxe() {
			t.Fatal("the machine is not on, or not told to boot from the network")
		}
	})
	t.Run("off_twice", func(t *testing.T) {
		for range 2 {
			b.must(t, ctx, func(s BMC) error { return s.Off(ctx) })
			b.reads(t, ctx, events.PowerIsOff)
		}
		if b.isOn() {
			t.Fatal("the machine is on")
		}
	})
	t.Run("a_hand_at_the_button", func(t *testing.T) {
		b.set(true)
		b.reads(t, ctx, events.PowerIsOn)
		b.set(false)
		b.reads(t, ctx, events.PowerIsOff)
	})
}

func (b bench) sessionSuite(t *testing.T, ctx context.Context) {
	t.Run("identity", func(t *testing.T) {
		b.must(t, ctx, func(s BMC) error {
			id, err := s.Identify(ctx)
			if err == nil && (len(id.GUID) != 32 || id.Manufacturer == 0 || id.Product == 0 || id.Firmware == "") {
				err = fmt.Errorf("identity %+v", id)
			}
			return err
		})
	})
	t.Run("two_sessions", func(t *testing.T) {
		b.must(t, ctx, func(one BMC) error {
			return b.visit(ctx, func(two BMC) error {
				_, err1 := one.Status(ctx)
				_, err2 := two.Status(ctx)
				_, err3 := one.Status(ctx)
				return errors.Join(err1, err2, err3)
			})
		})
	})
	t.Run("wrong_password", func(t *testing.T) {
		target := b.target
		target.Password = []byte("wrong-but-secret")
		_, err := b.connect(ctx, target)
		if err == nil {
			t.Fatal("logged in with a wrong password")
		}
		if strings.Contains(fmt.Sprintf("%v %+v %s", err, target, target), "wrong-but") {
			t.Fatalf("the password is in what would be logged: %v", err)
		}
	})
	t.Run("after_close", func(t *testing.T) {
		s, err := b.connect(ctx, b.target)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if state, err := s.Status(ctx); err == nil || state != events.PowerIsUnknown {
			t.Fatalf("a closed session read %q, %v", state, err)
		}
	})
	t.Run("ended_context", func(t *testing.T) {
		b.must(t, ctx, func(s BMC) error {
			ended, cancel := context.WithCancel(ctx)
			cancel()
			if state, err := s.Status(ended); err == nil || state != events.PowerIsUnknown {
				return fmt.Errorf("read %q, %v", state, err)
			}
			return nil
		})
	})
}

func TestFake(t *testing.T) {
	b := &fakeBMC{password: testPassword, id: Identity{GUID: strings.Repeat("ab", 16), Manufacturer: 1, Product: 2, Firmware: "1.0"}}
	bmcSuite(t, bench{b.connect, Target{User: "operator", Password: []byte(testPassword)}, b.set, b.isOn, b.nextBootPXE})
}

// OpenIPMI's simulator, a real RMCP+ server. It does not know cipher suite 17; TestReferenceServer has that.
func TestSimulator(t *testing.T) {
	for name, suites := range map[string][]uint8{"suite_3": {3}, "both": nil} {
		t.Run(name, func(t *testing.T) {
			sim := mustSimulator(t)
			bmcSuite(t, bench{IPMI{Suites: suites}.Connect, sim.target, sim.set, sim.isOn, func() bool { return sim.read("boot") == "pxe" }})
		})
	}
}

func TestWeakSuitesAreRefused(t *testing.T) {
	for _, s := range []uint8{0, 1, 2, 8, 15} {
		if _, err := (IPMI{Suites: []uint8{s}}).Connect(t.Context(), Target{Address: "127.0.0.1:1"}); err == nil {
			t.Errorf("cipher suite %d was taken", s)
		}
	}
}

// A BMC that does not answer is given up in time.
func TestNobodyThere(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	_, err = IPMI{Timeout: 50 * time.Millisecond, Retries: 1}.Connect(t.Context(), Target{Address: c.LocalAddr().String(), User: "x"})
	if err == nil || time.Since(began) > 5*time.Second {
		t.Fatalf("after %s: %v", time.Since(began), err)
	}
}

// simulator is an ipmi_sim whose machine is two files.
type simulator struct {
	t      testing.TB
	dir    string
	target Target
}

const simCommands = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nsel_enable 0x20 1000 0x0a\nmc_enable 0x20\n"

const simConfig = `name "machine"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 %d
    priv_limit admin
    allowed_auths_callback md5
    allowed_auths_user md5
    allowed_auths_operator md5
    allowed_auths_admin md5
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "%s/chassis"
  user 1 false "" "" user 10 md5
  user 2 true "operator" "%s" operator 10 md5
`

// The script is called as: get power | set power 0|1 | set boot <device> …, with one or more pairs.
const simChassis = `#!/bin/sh
cd %q || exit 1
how=$1; shift
while [ $# -gt 0 ]; do
	if [ "$how" = get ]; then echo "$1:$(cat "$1")"; shift; continue; fi
	[ "$how" = set ] || exit 0
	echo "$2" >"$1.new" && mv "$1.new" "$1"; shift 2
done
`

func mustSimulator(t testing.TB, more ...string) *simulator {
	t.Helper()
	if _, err := exec.LookPath("ipmi_sim"); err != nil {
		t.Fatal("ipmi_sim is missing: apt-get install -y --no-install-recommends openipmi")
	}
	s := &simulator{t: t, dir: t.TempDir()}
	port := mustFreePort(t)
	s.write("power", "0", 0o644)
	s.write("boot", "none", 0o644)
	s.write("chassis", fmt.Sprintf(simChassis, s.dir), 0o755)
	s.write("lan.conf", fmt.Sprintf(simConfig, port, s.dir, testPassword)+strings.Join(more, ""), 0o600)
	s.write("cmds.emu", simCommands, 0o644)
	s.target = Target{Address: fmt.Sprintf("127.0.0.1:%d", port), User: "operator", Password: []byte(testPassword)}
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ipmi_sim", "-n", "-c", filepath.Join(s.dir, "lan.conf"), "-f", filepath.Join(s.dir, "cmds.emu"), "-s", filepath.Join(s.dir, "state"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); log.Close() })
	end := time.Now().Add(10 * time.Second)
	for {
		b, err := IPMI{Timeout: 100 * time.Millisecond, Retries: -1}.Connect(t.Context(), s.target)
		if err == nil {
			_ = b.Close() // with this little patience it may fail; sessionSuite tests it
			return s
		}
		if time.Now().After(end) {
			t.Fatalf("the simulator does not answer within 10 s: %v; its log: %s", err, s.read("log"))
		}
	}
}

func mustFreePort(t testing.TB) int {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

func (s *simulator) write(name, text string, mode os.FileMode) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
}

func (s *simulator) read(name string) string {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func (s *simulator) isOn() bool { return s.read("power") == "1" }

func (s *simulator) set(on bool) {
	if on {
		s.write("power", "1", 0o644)
	} else {
		s.write("power", "0", 0o644)
	}
}

package initiator

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/workers/fabric"
)

var (
	naa1, naa2 = events.NAA(events.UnitSerial("disk", "1")), events.NAA(events.UnitSerial("disk", "2"))
	srpTarget  = Target{Transport: fabric.SRP, Machine: node, Address: "10.2.0.1"}
	tcpTarget  = Target{Transport: fabric.ISCSI, Machine: node, Address: "10.1.0.1"}
)

func (x *tree) count(word string) (n int) {
	for _, s := range x.said {
		if strings.Contains(s, word) {
			n++
		}
	}
	return n
}

func mustLUNs(t *testing.T, x *tree) []LUN {
	t.Helper()
	l, err := x.i.LUNs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLoginFindsUnitsAndMayBeRepeated(t *testing.T) {
	for _, target := range []Target{srpTarget, tcpTarget} {
		t.Run(target.Transport, func(t *testing.T) {
			x := newTree(t)
			x.units = []unit{{1, naa1, "0"}, {2, naa2, "0"}, {9, naa2, "31"}}
			for range 2 {
				if err := x.i.Login(t.Context(), target); err != nil {
					t.Fatal(err)
				}
			}
			if n := x.count("add_target") + x.count("--login"); n != 1 {
				t.Errorf("%d logins: %q", n, x.said)
			}
			luns := mustLUNs(t, x)
			if len(luns) != 2 || luns[0].Target != target || luns[0].Bytes != 1<<20 || luns[0].State != "running" || luns[0].DevNo == "" ||
				!slices.ContainsFunc(luns, func(l LUN) bool { return l.NAA == naa1 && l.Number == 1 }) {
				t.Errorf("LUNs = %+v", luns)
			}
			if got := x.i.text("sys/block", luns[0].Dev, "device/timeout"); got != "60" {
				t.Errorf("timeout is %s", got)
			}
			if err := x.i.Logout(t.Context(), target); err != nil {
				t.Fatal(err)
			}
			if err := x.i.Logout(t.Context(), target); err != nil {
				t.Fatal(err)
			}
			if s, err := x.i.Sessions(t.Context()); err != nil || len(s) != 0 || len(mustLUNs(t, x)) != 0 {
				t.Errorf("after logout: %v, %v", s, err)
			}
			x.i.Wait()
		})
	}
}

func TestSRPNamesAndLimits(t *testing.T) {
	x := newTree(t)
	if err := x.i.Login(t.Context(), srpTarget); err != nil {
		t.Fatal(err)
	}
	id := events.TargetSRP(node)
	want := "sys/class/infiniband_srp/srp-rxe_eth1-1/add_target=id_ext=" + id + ",ioc_guid=" + id + ",dest=10.2.0.1:5555,initiator_ext=" +
		events.InitiatorSRP(self) + ",queue_size=32,max_cmd_per_lun=16,tl_retry_count=2"
	if x.said[0] != want {
		t.Errorf("wrote %q\nwant  %q", x.said[0], want)
	}
	for name, want := range map[string]string{"fast_io_fail_tmo": "2", "dev_loss_tmo": "600", "reconnect_delay": "3"} {
		if got := x.i.text("sys/class/srp_remote_ports/port-2:1", name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if s, err := x.i.Sessions(t.Context()); err != nil || len(s) != 1 || s[0] != (Session{srpTarget, id, 2, "running", true}) {
		t.Errorf("Sessions = %+v, %v", s, err)
	}
}

func TestStaleConnectionIsTriedAgainWithABound(t *testing.T) {
	x := newTree(t)
	x.logins = []error{syscall.ECONNRESET, syscall.ECONNRESET, nil}
	if err := x.i.Login(t.Context(), srpTarget); err != nil || x.count("add_target") != 3 {
		t.Errorf("err %v after %d tries", err, x.count("add_target"))
	}
	x = newTree(t)
	x.logins = slices.Repeat([]error{syscall.ECONNRESET}, 100)
	if err := x.i.Login(t.Context(), srpTarget); !errors.Is(err, ErrRefused) || x.count("add_target") != staleTries {
		t.Errorf("err %v after %d tries", err, x.count("add_target"))
	}
}

func TestASessionThatIsNotQuiteGoneIsWaitedFor(t *testing.T) {
	x := newTree(t)
	x.logins = []error{syscall.EEXIST, nil}
	if err := x.i.Login(t.Context(), srpTarget); err != nil || x.count("add_target") != 2 {
		t.Errorf("SRP login: %v after %d tries", err, x.count("add_target"))
	}
	if err := x.i.Login(t.Context(), tcpTarget); err != nil {
		t.Fatal(err)
	}
	x.logouts = []int{exitNotConnected, exitInternal}
	if err := x.i.Logout(t.Context(), tcpTarget); err != nil || x.count("--logout") != 3 {
		t.Errorf("iSCSI logout: %v after %d tries", err, x.count("--logout"))
	}
}

func TestFailedLoginsSayWhy(t *testing.T) {
	for _, c := range []struct {
		name   string
		target Target
		login  error
		dead   bool
		want   error
	}{
		{"no fabric", Target{fabric.SRP, node, "10.9.0.1"}, nil, false, ErrNoLink},
		{"dead address", srpTarget, nil, true, ErrUnreachable},
		{"no route", srpTarget, syscall.EHOSTUNREACH, false, ErrUnreachable},
		{"odd", srpTarget, syscall.EINVAL, false, syscall.EINVAL},
		{"iscsi timeout", tcpTarget, exitError(exitTimeout), false, ErrUnreachable},
		{"iscsi not admitted", tcpTarget, exitError(exitAuth), false, ErrRefused},
		{"iscsi odd", tcpTarget, exitError(7), false, errTool},
	} {
		x := newTree(t)
		x.i.edges.answers = func(context.Context, string) error {
			if c.dead {
				return errors.New("i/o timeout")
			}
			return nil
		}
		if c.login != nil {
			x.logins = []error{c.login}
		}
		if err := x.i.Login(t.Context(), c.target); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if err := newTree(t).i.Login(t.Context(), Target{"fc", node, "10.1.0.1"}); err == nil {
		t.Error("logged in over an unknown transport")
	}
}

func TestALostSessionIsTakenUpAgain(t *testing.T) {
	x := newTree(t)
	if err := x.i.Login(t.Context(), srpTarget); err != nil {
		t.Fatal(err)
	}
	x.write("fail-fast", "sys/class/srp_remote_ports/port-2:1/state")
	x.said = nil
	x.i.edges.answers = func(context.Context, string) error { return errors.New("no") }
	if err := x.i.Login(t.Context(), srpTarget); !errors.Is(err, ErrDown) || !errors.Is(err, ErrUnreachable) || len(x.said) != 0 {
		t.Errorf("dead target: %v, %q", err, x.said)
	}
	x.i.edges.answers = func(context.Context, string) error {
		time.AfterFunc(20*time.Millisecond, func() { x.write("running", "sys/class/srp_remote_ports/port-2:1/state") })
		return nil
	}
	if err := x.i.Login(t.Context(), srpTarget); err != nil || x.count("reconnect_delay=off") != 1 || x.count("add_target") != 0 {
		t.Errorf("%v, %q", err, x.said)
	}
}

func TestAnotherAddressIsAnotherSession(t *testing.T) {
	for _, target := range []Target{srpTarget, tcpTarget} {
		x := newTree(t)
		if err := x.i.Login(t.Context(), target); err != nil {
			t.Fatal(err)
		}
		target.Address = strings.Replace(target.Address, ".0.1", ".0.7", 1)
		if err := x.i.Login(t.Context(), target); err != nil {
			t.Fatal(err)
		}
		if s, err := x.i.Sessions(t.Context()); err != nil || len(s) != 1 || s[0].Target != target {
			t.Errorf("Sessions = %+v, %v", s, err)
		}
	}
}

func TestForeignSessionsAndLocalDisksAreNotOurs(t *testing.T) {
	x := newTree(t)
	x.units = []unit{{0, naa1, "0"}}
	x.iscsi("iqn.2000-01.com.example:other", "10.1.0.9")
	n, dir := x.host("pci0/ata1")
	x.scan(n, dir)
	s, err := x.i.Sessions(t.Context())
	if err != nil || len(s) != 1 || s[0].Target.Machine != "" || s[0].Target.Address != "" {
		t.Errorf("Sessions = %+v, %v", s, err)
	}
	if l := mustLUNs(t, x); len(l) != 0 {
		t.Errorf("LUNs = %+v", l)
	}
}

func TestRescan(t *testing.T) {
	x := newTree(t)
	if err := x.i.Rescan(t.Context(), srpTarget); !errors.Is(err, ErrNoSession) {
		t.Errorf("without a session: %v", err)
	}
	x.units = []unit{{1, naa1, "0"}}
	if err := x.i.Login(t.Context(), srpTarget); err != nil {
		t.Fatal(err)
	}
	x.units = append(x.units, unit{2, naa2, "0"})
	if err := x.i.Rescan(t.Context(), srpTarget); err != nil || len(mustLUNs(t, x)) != 2 || x.count("rescan=1") != 1 {
		t.Errorf("new unit: %v, %+v", err, mustLUNs(t, x))
	}
	gone := mustLUNs(t, x)[0]
	x.replies[gone.Dev] = []reply{{status: statusCheck, sense: []byte{0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x25, 0}}}
	x.units = slices.DeleteFunc(x.units, func(u unit) bool { return u.naa == gone.NAA })
	if err := x.i.Rescan(t.Context(), srpTarget); err != nil || len(mustLUNs(t, x)) != 1 || mustLUNs(t, x)[0].NAA == gone.NAA {
		t.Errorf("gone unit: %v, %+v", err, mustLUNs(t, x))
	}
	x.write("blocked", "sys/class/srp_remote_ports/port-2:1/state")
	if err := x.i.Rescan(t.Context(), srpTarget); !errors.Is(err, ErrDown) {
		t.Errorf("dead session: %v", err)
	}
}

func TestProbeReturnsWhenItsContextEnds(t *testing.T) {
	x := newTree(t)
	x.units = []unit{{1, naa1, "0"}}
	if err := x.i.Login(t.Context(), srpTarget); err != nil {
		t.Fatal(err)
	}
	dev := mustLUNs(t, x)[0].Dev
	answer, asked := make(chan struct{}), 0
	x.i.edges.command = func(string, []byte) (reply, error) {
		asked++
		<-answer
		return reply{host: 0x0f}, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := x.i.Probe(ctx, dev); !errors.Is(err, ErrPending) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer: %v", err)
	}
	time.AfterFunc(10*time.Millisecond, func() { close(answer) })
	if err := x.i.Probe(t.Context(), dev); !errors.Is(err, ErrTransport) || asked != 1 {
		t.Errorf("joined: %v, asked %d times", err, asked)
	}
	x.write("2", "sys/block", dev, "diskseq")
	if err := x.i.Probe(t.Context(), dev); !errors.Is(err, ErrTransport) || asked != 2 {
		t.Errorf("another disk of the same name: %v, asked %d times", err, asked)
	}
	x.i.Wait()
	for _, bad := range []string{"sdz", "../sda", ""} {
		if err := x.i.Probe(t.Context(), bad); err == nil {
			t.Errorf("probed %q", bad)
		}
	}
}

func TestUnitAttentionIsAskedAgain(t *testing.T) {
	x := newTree(t)
	attention := reply{status: statusCheck, driver: driverSense, sense: []byte{0x72, 6, 0x29, 0}}
	x.replies["sda"] = []reply{attention, attention, {}}
	if err := x.i.ready("sda"); err != nil {
		t.Errorf("after two attentions: %v", err)
	}
	x.replies["sda"] = []reply{attention}
	if err := x.i.ready("sda"); !errors.Is(err, ErrUnit) {
		t.Errorf("attention for ever: %v", err)
	}
}

func TestReplies(t *testing.T) {
	fixed := func(key, asc, ascq byte) []byte {
		return []byte{0xf0, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0}
	}
	for _, c := range []struct {
		r    reply
		want error
	}{
		{reply{}, nil},
		{reply{driver: driverSense}, nil},
		{reply{status: statusCheck, sense: fixed(2, 4, 0x0b)}, ErrStandby},
		{reply{status: statusCheck, sense: []byte{0x72, 2, 4, 0x0b, 0, 0, 0, 0}}, ErrStandby},
		{reply{status: statusCheck, sense: fixed(2, 4, 0x0c)}, ErrUnavailable},
		{reply{status: statusCheck, sense: fixed(2, 4, 0x0a)}, ErrNotReady},
		{reply{status: statusCheck, sense: fixed(5, 0x25, 0)}, ErrNoUnit},
		{reply{status: statusCheck, sense: fixed(3, 0x11, 0)}, ErrUnit},
		{reply{status: statusCheck}, ErrUnit},
		{reply{status: statusCheck, sense: []byte{0x70, 0, 2, 0}}, ErrNotReady},
		{reply{status: statusConflict}, ErrReserved},
		{reply{host: hostNexusFailure}, ErrReserved},
		{reply{status: statusBusy}, ErrNotReady},
		{reply{host: 1}, ErrTransport},
		{reply{host: 0x0f, status: statusCheck, sense: fixed(2, 4, 0x0b)}, ErrTransport},
		{reply{status: 0x40}, ErrUnit},
		{reply{driver: 6}, ErrUnit},
	} {
		if err := c.r.err(); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%+v: %v, want %v", c.r, err, c.want)
		}
	}
	if !errors.Is(ErrStandby, ErrNotReady) || errors.Is(reply{status: statusCheck, sense: fixed(2, 4, 0x0a)}.err(), ErrStandby) {
		t.Error("standby is one kind of not ready")
	}
}

func TestOneRunForAKeyAndOneInALane(t *testing.T) {
	var f flights
	running, most, runs := 0, 0, 0
	hold := make(chan struct{})
	fn := func(context.Context) error {
		running++
		runs++
		most = max(most, running)
		<-hold
		running--
		return nil
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	for _, key := range []string{"a", "a", "b"} {
		_ = f.do(short, "lane", key, time.Minute, fn)
	}
	close(hold)
	for _, key := range []string{"a", "b"} {
		_ = f.do(t.Context(), "lane", key, time.Minute, func(context.Context) error { return nil })
	}
	f.wait()
	if most != 1 || runs > 2 {
		t.Errorf("%d runs, %d at once", runs, most)
	}
}

func TestFilesOfTheDaemon(t *testing.T) {
	x := newTree(t)
	if err := x.i.writeFiles(); err != nil {
		t.Fatal(err)
	}
	if got := x.i.text("etc/iscsi/initiatorname.iscsi"); got != "InitiatorName="+events.InitiatorIQN(self) {
		t.Errorf("name file: %q", got)
	}
	conf := x.i.text("etc/iscsi/iscsid.conf")
	for _, want := range []string{"replacement_timeout = 2", "noop_out_interval = 2", "noop_out_timeout = 3", "node.startup = manual"} {
		if !strings.Contains(conf, want) {
			t.Errorf("iscsid.conf lacks %q", want)
		}
	}
	x.write("77", pidFile)
	for stat, want := range map[string]int{"77 (iscsid) S 1": 77, "77 (iscsid) Z 1": 0, "77 (other) S 1": 0} {
		if x.write(stat, "proc/77/stat"); x.i.daemon() != want {
			t.Errorf("%q: daemon %d, want %d", stat, x.i.daemon(), want)
		}
	}
}

package boot

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

func TestParseConfig(t *testing.T) {
	good := `{"machine":"m","name":"host1","token":"t","bus":["nats://10.77.0.1:4222"],"http":"http://10.77.0.1:8080",
		"image":"i","time":"2026-11-22T23:00:00Z","roles":["host"],"later":1}`
	c, err := parseConfig([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "host1" || c.Bus[0] != "nats://10.77.0.1:4222" || c.Roles[0] != "host" || c.Time.Hour() != 23 {
		t.Errorf("read %+v", c)
	}
	for _, bad := range []string{``, `[]`, `{}`, strings.Replace(good, `"m"`, `""`, 1), strings.Replace(good, `"t"`, `""`, 1),
		strings.Replace(good, `["nats://10.77.0.1:4222"]`, `[]`, 1), strings.Replace(good, `2026`, `x`, 1)} {
		if _, err := parseConfig([]byte(bad)); err == nil {
			t.Errorf("took %s", bad)
		}
	}
}

func TestIsMounted(t *testing.T) {
	info := "22 1 0:20 / /proc rw,relatime - proc proc rw\n23 1 0:5 / /dev rw - devtmpfs none rw,size=1k\nbroken\n"
	for _, c := range []struct {
		m    mount
		want bool
	}{
		{mount{kind: "proc", dir: "/proc"}, true}, {mount{kind: "tmpfs", dir: "/dev"}, false},
		{mount{kind: "devtmpfs", dir: "/dev"}, true}, {mount{kind: "sysfs", dir: "/sys"}, false},
	} {
		if got := isMounted(info, c.m); got != c.want {
			t.Errorf("%s on %s: %v", c.m.kind, c.m.dir, got)
		}
	}
}

func TestIsAlive(t *testing.T) {
	for status, want := range map[string]bool{
		"Name:\txenstored\nState:\tS (sleeping)\n": true,
		"Name:\txenstored\nState:\tZ (zombie)\n":   false,
		"Name:\tgosh\nState:\tR (running)\n":       false,
		"":                                         false,
	} {
		if got := isAlive(status, "xenstored"); got != want {
			t.Errorf("%q: %v", status, got)
		}
	}
}

func TestRunningReadsPidFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.pid")
	for _, body := range []string{"", "x\n", "0\n", "-1\n", "999999999\n", "1\n"} {
		mustWrite(t, file, body)
		if pid := running(file, "xenstored"); pid != 0 {
			t.Errorf("%q: took process %d for xenstored", body, pid)
		}
	}
	if running(file+".none", "xenstored") != 0 {
		t.Error("a missing pid file names a process")
	}
}

func TestBootMAC(t *testing.T) {
	for line, want := range map[string]string{
		"console=hvc0 ce.nic=52:54:00:AA:bb:01 quiet": "52:54:00:aa:bb:01",
		"BOOTIF=01-52-54-00-aa-bb-02":                 "52:54:00:aa:bb:02",
		"console=hvc0 quiet":                          "",
	} {
		if got := bootMAC(line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func TestLeaseOf(t *testing.T) {
	ack, err := dhcpv4.New(dhcpv4.WithYourIP(net.IPv4(10, 77, 0, 11)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithLeaseTime(3600), dhcpv4.WithServerIP(net.IPv4(10, 77, 0, 1)), dhcpv4.WithRouter(net.IPv4(10, 77, 0, 1)),
		dhcpv4.WithDNS(net.IPv4(10, 77, 0, 1)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 77, 0, 1))))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	got, err := leaseOf("eth0", "52:54:00:00:00:01", ack, now)
	want := Lease{Interface: "eth0", MAC: "52:54:00:00:00:01", Address: "10.77.0.11/24", Router: "10.77.0.1",
		DNS: []string{"10.77.0.1"}, Server: "10.77.0.1", Seconds: 3600, Obtained: now}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	empty, err := dhcpv4.New()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leaseOf("eth0", "", empty, now); err == nil {
		t.Error("an answer without address was taken")
	}
}

func TestIsFar(t *testing.T) {
	served := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for now, want := range map[time.Time]bool{
		served.Add(20 * time.Second): false,
		served.Add(-time.Second):     false,
		served.Add(-time.Minute):     true,
		served.Add(2 * time.Hour):    true,
	} {
		if got := isFar(now, served); got != want {
			t.Errorf("clock at %s: %v", now, got)
		}
	}
	if isFar(served, time.Time{}) {
		t.Error("no time in boot.json makes the clock wrong")
	}
}

func TestSyncClockSaysWhatIsWrong(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := syncClock(ctx, slog.New(slog.DiscardHandler), "http://127.0.0.1:1"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func mustWrite(t *testing.T, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
}

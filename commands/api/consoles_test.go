package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
)

func openConsoles(t *testing.T) (*Consoles, *time.Time) {
	t.Helper()
	c, err := OpenConsoles(filepath.Join(t.TempDir(), "consoles"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c.now = func() time.Time { return now }
	return c, &now
}

func TestConsolesAreKeptForAWhile(t *testing.T) {
	c, now := openConsoles(t)
	b, err := c.Put("m1", []byte("guest: bye\n"))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := c.Get(b); err != nil || string(text) != "guest: bye\n" {
		t.Fatalf("%q, %v", text, err)
	}
	for _, digest := range []string{"", "*", "../m1/" + b.SHA256[:10], strings.Repeat("0", 64)} {
		if text, err := c.Get(events.Blob{SHA256: digest}); !errors.Is(err, ErrNoConsole) {
			t.Errorf("digest %q gives %q, %v", digest, text, err)
		}
	}
	if err := os.WriteFile(filepath.Join(c.dir, "m1", b.SHA256), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(b); !errors.Is(err, ErrNoConsole) {
		t.Errorf("content that is not what its digest says was given: %v", err)
	}
	if b, err = c.Put("m1", []byte("old")); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(ConsoleAge + time.Hour)
	if _, err := c.Get(b); !errors.Is(err, ErrNoConsole) {
		t.Errorf("after its time: %v", err)
	}
	if _, err := c.Put("m2", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if left := filesIn(filepath.Join(c.dir, "m1", "*")); len(left) != 0 {
		t.Errorf("what is too old is still there: %v", left)
	}
}

// A machine that sends one console after the other drops its own, not those of others.
func TestConsolesOfOneMachineAreBounded(t *testing.T) {
	c, _ := openConsoles(t)
	other, err := c.Put("m2", []byte("of another machine"))
	if err != nil {
		t.Fatal(err)
	}
	text := bytes.Repeat([]byte("x"), events.MaxConsoleTail)
	for i := range consoleRoom/len(text) + 20 {
		text[0], text[1] = byte(i), byte(i>>8)
		if _, err := c.Put("m1", text); err != nil {
			t.Fatal(err)
		}
	}
	var total int64
	for _, f := range filesIn(filepath.Join(c.dir, "m1", "*")) {
		total += f.size
	}
	if total > consoleRoom || total < consoleRoom/2 {
		t.Errorf("%d bytes are kept of one machine", total)
	}
	if _, err := c.Get(other); err != nil {
		t.Errorf("the other machine's is gone: %v", err)
	}
}

func TestLastRunIsReadFromTheServer(t *testing.T) {
	s, r := service(t)
	var err error
	if s.cfg.Consoles, err = OpenConsoles(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	send := func(body any) events.Answer {
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		return s.takeConsole(t.Context(), &nats.Msg{Subject: "rep.m1.console", Data: raw}).(events.Answer)
	}
	if a := send(events.ConsoleTail{VM: "v", Data: []byte("guest: powering off\n")}); a.Outcome.Status != events.Accepted {
		t.Fatalf("%+v", a)
	}
	for name, bad := range map[string]any{"empty": events.ConsoleTail{VM: "v"}, "large": events.ConsoleTail{VM: "v", Data: make([]byte, events.MaxConsoleTail+1)}, "else": map[string]int{"x": 1}} {
		if a := send(bad); a.Outcome.Code != events.CodeInvalid {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if len(r.got) != 0 {
		t.Fatalf("a console went to the log: %+v", r.got)
	}
	b, _ := s.cfg.Consoles.Put("m1", []byte("guest: powering off\n"))
	s.cfg.Reader = rows{"ran": {"acc", `{"id":"ran","host":null,"console_at":"2026-01-01T00:00:00Z","console_size":20,"console_sha256":"` + b.SHA256 + `"}`},
		"lost": {"acc", `{"id":"lost","console_size":20,"console_sha256":"` + strings.Repeat("0", 64) + `"}`}, "never": {"acc", `{"id":"never"}`}}
	ask := func(body string) wire.ConsoleAnswer {
		return s.console(t.Context(), &nats.Msg{Subject: "console.ann.vm", Data: []byte(body)}).(wire.ConsoleAnswer)
	}
	if a := ask(`{"vm":"ran","last_run":true,"bytes":4}`); a.Error != nil || string(a.Data) != "off\n" || a.Ended == nil {
		t.Errorf("%+v", a)
	}
	for _, vm := range []string{"lost", "never", "theirs"} {
		if a := ask(`{"vm":"` + vm + `","last_run":true}`); a.Error == nil || a.Error.Code != events.CodeNotFound {
			t.Errorf("%s: %+v", vm, a)
		}
	}
}

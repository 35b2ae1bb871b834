package netboot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestServedIsReportedUntilTaken(t *testing.T) {
	first := newService(t, nil)
	for i := range 3 {
		err := first.queue.add(BootServed{Machine: "id-1", TokenSHA256: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
	}
	calls, opt := make(chan string, 16), first.opt
	refuse := 2
	opt.OnServed = func(_ context.Context, b BootServed) error {
		calls <- b.TokenSHA256
		if refuse--; refuse >= 0 {
			return errors.New("the log is away")
		}
		return nil
	}
	second, err := New(opt) // after a restart
	if err != nil {
		t.Fatal(err)
	}
	running(t, second.Run)
	var got []string
	for len(got) < 5 {
		select {
		case c := <-calls:
			got = append(got, c)
		case <-time.After(10 * time.Second):
			t.Fatalf("only %v were reported", got)
		}
	}
	if fmt.Sprint(got) != "[0 0 0 1 2]" {
		t.Errorf("reports %v: want the first until it is taken, then the others in order", got)
	}
	if err := second.queue.add(BootServed{Machine: "id-1", TokenSHA256: "3"}); err != nil {
		t.Fatal(err)
	}
	select {
	case c := <-calls:
		if c != "3" {
			t.Errorf("then %s", c)
		}
	case <-time.After(10 * time.Second):
		t.Error("a later report is not delivered")
	}
}

func TestQueueIsBoundedPerMachine(t *testing.T) {
	s := newService(t, nil)
	if err := s.queue.add(BootServed{Machine: "id-2", TokenSHA256: "other"}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * maxQueued {
		if err := s.queue.add(BootServed{Machine: "id-1", TokenSHA256: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	names, err := s.queue.list()
	if err != nil || len(names) != maxQueued+1 {
		t.Errorf("%d reports wait (%v), want %d", len(names), err, maxQueued+1)
	}
}

func TestBrokenReportIsPutAside(t *testing.T) {
	s := newService(t, func(o *Options) { o.OnServed = func(context.Context, BootServed) error { return nil } })
	path := filepath.Join(s.queue.dir, "0000000000000001-x.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.deliverAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + ".bad"); err != nil {
		t.Error(err)
	}
}

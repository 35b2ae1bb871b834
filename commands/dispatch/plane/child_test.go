package plane_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/commands"
	"cloudengine/commands/dispatch"
	"cloudengine/commands/dispatch/plane"
	"cloudengine/events"
	"cloudengine/events/broker"
)

// The test binary is also the program that the kill tests kill: a bus, a log, a dispatcher, and an endpoint for intents.

const childEnv = "CE_TEST_SERVER"

type childConfig struct {
	Dir, Listen, Name, AdminKey string
	Cluster                     string   // address for routes; empty: alone
	Routes                      []string // of all
}

func TestMain(m *testing.M) {
	if cfg := os.Getenv(childEnv); cfg != "" {
		if err := runChild(cfg); err != nil {
			fmt.Println("failed", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runChild serves until standard input ends or it is told to stop. It prints a line when it becomes ready, active and idle.
func runChild(text string) error {
	var cfg childConfig
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }() // the parent has died
	o := plane.Options{
		Bus:      broker.Options{Dir: cfg.Dir, Listen: cfg.Listen, Name: cfg.Name},
		Dispatch: dispatch.Options{AdminKey: cfg.AdminKey, Silence: time.Hour, Poll: 50 * time.Millisecond},
		Logger:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	if cfg.Cluster != "" {
		o.Bus.Cluster = &broker.Cluster{Listen: cfg.Cluster, Routes: cfg.Routes, Secret: "shared"}
	}
	p, err := plane.Start(ctx, o, func(p *plane.Plane) error {
		if _, err := p.Conn.QueueSubscribe("read.*.log.get", "log", func(m *nats.Msg) { go giveBlock(ctx, p, m) }); err != nil {
			return err
		}
		var sub *nats.Subscription
		p.Dispatch.OnActive(func(active bool) {
			if active {
				sub, _ = p.Conn.Subscribe("do.*.*.*", func(m *nats.Msg) { go answer(ctx, p.Dispatch, m) })
				fmt.Println("active")
				return
			}
			_ = sub.Unsubscribe()
			fmt.Println("idle")
		})
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Println("ready", p.Bus.ClientURL())
	<-ctx.Done()
	p.Stop()
	return nil
}

// answer is a small endpoint. Users of the test begin with "admin"; the word of a machine or a component is sent as admin's with the
// real actor in Correlation, so that the parent can play the machines too.
func answer(ctx context.Context, d *dispatch.Dispatcher, m *nats.Msg) {
	actor, kind, verb, err := events.SplitDo(m.Subject)
	var r events.Request
	if err == nil {
		err = json.Unmarshal(m.Data, &r)
	}
	if err != nil {
		return
	}
	if strings.Contains(r.Correlation, ":") {
		actor = r.Correlation
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	a, err := d.Submit(ctx, commands.Command{Intent: r.ID, Actor: actor, Kind: kind, Verb: verb, Args: r.Args}, r.DryRun)
	if err != nil {
		a = events.Answer{ID: r.ID, Outcome: events.Outcome{Status: events.Refused, Code: events.CodeUnavailable, Message: err.Error()}}
	}
	body, _ := json.Marshal(a) // our own type
	_ = m.Respond(body)
}

// giveBlock answers with the stored block of a sequence, as the leader has it; empty if there is none.
func giveBlock(ctx context.Context, p *plane.Plane, m *nats.Msg) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	seq, _ := strconv.ParseUint(string(m.Data), 10, 64)
	s, err := p.JS.Stream(ctx, events.StreamEvents)
	if err != nil {
		return // the parent asks again
	}
	stored, err := s.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		_ = m.Respond(nil)
	} else if err == nil {
		_ = m.Respond(stored.Data)
	}
}

// server is a child process.
type server struct {
	t    *testing.T
	cfg  childConfig
	proc *os.Process
	in   *os.File
	done chan struct{}

	mu     sync.Mutex
	url    string
	active bool
	output []string
}

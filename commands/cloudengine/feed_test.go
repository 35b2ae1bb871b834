package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestBareClient does what commands/api/DESIGN.md says, with nats.go alone: it imports nothing of ours. It sends an intent, gets its
// outcome and number, repeats it, follows the object on FEED, loses its connection, and goes on where it was.
func TestBareClient(t *testing.T) {
	url, keyFile := startServer(t)
	nc := bareConnect(t, url, keyFile)
	id := uuid.Must(uuid.NewV7()).String()
	first := bareAsk(t, nc, "do.admin.account.create", fmt.Sprintf(`{"id":%q,"args":{"name":"demo"},"reason":"a test"}`, id))
	if first.Outcome.Status != "accepted" || first.Number == 0 {
		t.Fatalf("first answer: %+v", first)
	}
	again := bareAsk(t, nc, "do.admin.account.create", fmt.Sprintf(`{"id":%q,"args":{"name":"demo"},"reason":"a test"}`, id))
	if again.Number != first.Number || again.Outcome.Status != "accepted" {
		t.Errorf("the same again: %+v, want decision %d", again, first.Number)
	}
	other := bareAsk(t, nc, "do.admin.account.create", fmt.Sprintf(`{"id":%q,"args":{"name":"other"}}`, id))
	if other.Outcome.Status != "refused" || other.Outcome.Code != "id_reused" {
		t.Errorf("the same id with another body: %+v", other)
	}

	seen, last := bareFollow(t, nc, "feed.account."+id+".*", 0, 1)
	if !strings.Contains(seen[0], `"account.created.v1"`) || !strings.Contains(seen[0], fmt.Sprintf(`"number":%d`, first.Number)) {
		t.Errorf("FEED: %s", seen[0])
	}
	nc.Close() // the break; meanwhile the world goes on
	meanwhile := bareConnect(t, url, keyFile)
	gone := bareAsk(t, meanwhile, "do.admin.account.delete", fmt.Sprintf(`{"id":%q,"args":{"account":%q},"expect":{"name":"demo"}}`, uuid.Must(uuid.NewV7()), id))
	if gone.Outcome.Status != "accepted" {
		t.Fatalf("delete: %+v", gone)
	}
	seen, _ = bareFollow(t, bareConnect(t, url, keyFile), "feed.account."+id+".*", last, 1)
	if !strings.Contains(seen[0], `"account.deleted.v1"`) {
		t.Errorf("after the break: %s", seen[0])
	}
}

// bareAnswer is the answer to an intent, as the documentation describes it.
type bareAnswer struct {
	ID      string
	Number  uint64
	Outcome struct{ Status, Code, Message string }
}

func bareAsk(t *testing.T, nc *nats.Conn, subject, body string) bareAnswer {
	t.Helper()
	var a bareAnswer
	reply, err := nc.Request(subject, []byte(body), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func bareConnect(t *testing.T, url, keyFile string) *nats.Conn {
	t.Helper()
	key, err := nats.NkeyOptionFromSeed(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(url, key, nats.RootCAs(filepath.Join(filepath.Dir(keyFile), "ca.pem")), nats.CustomInboxPrefix("_INBOX_admin"), nats.Timeout(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// bareFollow reads n messages of FEED behind a sequence, and gives them and the sequence of the last.
func bareFollow(t *testing.T, nc *nats.Conn, filter string, after uint64, n int) (bodies []string, last uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	js, err := jetstream.NewWithAPIPrefix(nc, "feedapi")
	if err != nil {
		t.Fatal(err)
	}
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverAllPolicy}
	if after > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, after+1
	}
	consumer, err := js.OrderedConsumer(ctx, "FEED", cfg)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	for len(bodies) < n {
		msg, err := messages.Next()
		if err != nil {
			t.Fatalf("after %d messages: %v (%v)", len(bodies), err, ctx.Err())
		}
		meta, err := msg.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		bodies, last = append(bodies, string(msg.Data())), meta.Sequence.Stream
	}
	return bodies, last
}

// startServer starts "cloudengine serve" on free ports until the test ends.
func startServer(t *testing.T) (url, keyFile string) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	program, err := exec.LookPath("cloudengine")
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(exec.Command(program, "serve", "--data", data, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"), filepath.Join(t.TempDir(), "serve.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.end(syscall.SIGTERM); err != nil {
			t.Errorf("serve: %v\n%s", err, lastLines(p.log, 40))
		}
	})
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); {
		var where struct{ Bus string }
		raw, err := os.ReadFile(filepath.Join(data, endpointsFile))
		if err == nil && json.Unmarshal(raw, &where) == nil {
			return where.Bus, filepath.Join(data, adminKeyFile)
		}
		select {
		case <-p.done:
			t.Fatalf("serve ended:\n%s", lastLines(p.log, 40))
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("serve is not ready:\n%s", lastLines(p.log, 40))
	return "", ""
}

package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
)

// StreamAlerts keeps the alerts, each on alert.<id>.
const StreamAlerts = "ALERTS"

const subjectPrefix = "alert."

// Errors of Ack and Retry.
var (
	ErrNoAlert = errors.New("there is no such alert")
	ErrMany    = errors.New("more than one alert begins with that")
)

const (
	keepCleared = 90 * 24 * time.Hour
	maxRecords  = 20000
	storeTime   = 10 * time.Second
)

// When FEED was made anew, after a restore or the loss of its stream, all of the past is told again.
const (
	replayed = 10 * time.Minute // what is older is not told at once: its end may follow
	grace    = time.Minute      // after which it is told if its end has not come
	bygone   = 24 * time.Hour   // what has happened before that, and would stay until it is acknowledged, is not raised any more
)

// EnsureStream declares the stream. replicas is 1, 3 or 5.
func EnsureStream(ctx context.Context, js jetstream.JetStream, replicas int) error {
	_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: StreamAlerts, Description: "alerts: what was raised, what is over, and who was told", Subjects: []string{subjectPrefix + "*", subjectPosition},
		Storage: jetstream.FileStorage, Replicas: replicas, MaxMsgsPerSubject: 1, Duplicates: 2 * time.Minute,
	})
	if err != nil {
		return fmt.Errorf("declare stream %s: %w", StreamAlerts, err)
	}
	return nil
}

// Book is the alerts, as the active server keeps them. Its methods are safe for concurrent use.
type Book struct {
	js      jetstream.JetStream
	log     *slog.Logger
	now     func() time.Time
	senders []Sender

	mu      sync.Mutex
	records map[string]*entry // by id
	open    map[string]string // id by key
	changed chan struct{}     // closed and made anew
}

type entry struct {
	*Record
	seq uint64 // of its message in the stream
}

// Load reads the book and forgets what has been over for long.
func Load(ctx context.Context, js jetstream.JetStream, log *slog.Logger, now func() time.Time, senders ...Sender) (*Book, error) {
	b := &Book{js: js, log: log, now: now, senders: senders, records: map[string]*entry{}, open: map[string]string{}, changed: make(chan struct{})}
	if err := read(ctx, js, func(r *Record, seq uint64) error { b.take(&entry{r, seq}); return nil }); err != nil {
		return nil, err
	}
	return b, b.prune(ctx)
}

// read gives every alert of the stream, in the order of their last change.
func read(ctx context.Context, js jetstream.JetStream, f func(r *Record, seq uint64) error) error {
	s, err := js.Stream(ctx, StreamAlerts)
	if err != nil {
		return fmt.Errorf("read alerts: %w", err)
	}
	info, err := s.Info(ctx)
	if err != nil {
		return fmt.Errorf("read alerts: %w", err)
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && info.State.Msgs > 0; {
		m, err := s.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(subjectPrefix+"*"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read alerts: %w", err)
		}
		var r Record
		if err := json.Unmarshal(m.Data, &r); err != nil {
			return fmt.Errorf("read alert at %d: %w", m.Sequence, err)
		}
		if err := f(&r, m.Sequence); err != nil {
			return err
		}
		seq = m.Sequence + 1
	}
	return nil
}

func (b *Book) take(e *entry) {
	b.records[e.ID] = e
	switch {
	case e.Open():
		b.open[e.Key] = e.ID
	case b.open[e.Key] == e.ID:
		delete(b.open, e.Key)
	}
}

// prune removes what was over long ago, and the oldest of what is over if there is too much.
func (b *Book) prune(ctx context.Context) error {
	var old []*entry
	for _, e := range b.records {
		if !e.Open() && !slices.ContainsFunc(e.Sent, Sending.pending) {
			old = append(old, e)
		}
	}
	slices.SortFunc(old, func(x, y *entry) int { return x.Cleared.Compare(*y.Cleared) })
	s, err := b.js.Stream(ctx, StreamAlerts)
	if err != nil {
		return fmt.Errorf("prune alerts: %w", err)
	}
	for i, e := range old {
		if b.now().Sub(*e.Cleared) < keepCleared && len(b.records) <= maxRecords {
			break
		}
		if err := s.Purge(ctx, jetstream.WithPurgeSubject(subjectPrefix+e.ID)); err != nil {
			return fmt.Errorf("prune alerts (%d of %d): %w", i, len(old), err)
		}
		delete(b.records, e.ID)
	}
	return nil
}

// Take writes what a change says into the book, and returns when that is stored. The same change again changes nothing.
func (b *Book) Take(ctx context.Context, c Change) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := Place{c.Number, c.Index}
	id, isOpen := b.open[c.Key()]
	switch {
	case !isOpen && c.Raise:
		r := newRecord(c, b.names())
		if _, was := b.records[r.ID]; was || b.isBygone(c) {
			return nil // it comes again, and is over
		}
		if c.Number > 0 && b.now().Sub(c.Time) > replayed {
			r.hold(b.now().Add(grace))
		}
		b.log.Log(ctx, r.level(), "alert", "id", r.ID, "rule", r.Rule, "severity", r.Severity, "object", r.Object.String(), "message", r.Message,
			"number", r.Number, "index", r.Index, "time", r.Raised, "actor", r.Actor, "reason", r.Reason)
		return b.store(ctx, &entry{Record: r})
	case !isOpen:
		return nil
	case c.Number > 0 && !b.records[id].Last.before(at):
		return nil // it comes again
	case c.Raise && c.Number == 0:
		return nil
	}
	e := b.records[id]
	r := e.clone()
	r.Last = at
	if c.Raise {
		r.Times++
		r.Message = c.Message
	} else {
		r.clear(c.Time, c.Message)
		b.log.Info("alert is over", "id", r.ID, "rule", r.Rule, "object", r.Object.String(), "why", c.Message)
	}
	return b.store(ctx, &entry{r, e.seq})
}

func (b *Book) isBygone(c Change) bool {
	return c.Stays && !c.Time.IsZero() && b.now().Sub(c.Time) > bygone
}

func (r *Record) level() slog.Level {
	if r.Severity == Critical {
		return slog.LevelError
	}
	return slog.LevelWarn
}

func (b *Book) names() []string {
	out := make([]string, len(b.senders))
	for i, s := range b.senders {
		out[i] = s.Name()
	}
	return out
}

// store writes an alert over the version that we know. Another server that has written meanwhile is the active one now.
func (b *Book) store(ctx context.Context, e *entry) error {
	body, err := json.Marshal(e.Record)
	if err != nil {
		return fmt.Errorf("encode alert: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	m := nats.NewMsg(subjectPrefix + e.ID)
	m.Data = body
	m.Header.Set("Nats-Expected-Last-Subject-Sequence", strconv.FormatUint(e.seq, 10))
	ack, err := b.js.PublishMsg(ctx, m)
	if err != nil {
		b.refresh(ctx, e.ID)
		return fmt.Errorf("store alert %s: %w", e.ID, err)
	}
	e.seq = ack.Sequence
	b.take(e)
	close(b.changed)
	b.changed = make(chan struct{})
	return nil
}

// refresh looks what is stored, after it was not what we knew or the answer was lost.
func (b *Book) refresh(ctx context.Context, id string) {
	s, err := b.js.Stream(ctx, StreamAlerts)
	if err != nil {
		return // the next try asks again
	}
	m, err := s.GetLastMsgForSubject(ctx, subjectPrefix+id)
	var r Record
	if err == nil && json.Unmarshal(m.Data, &r) == nil {
		b.take(&entry{&r, m.Sequence})
	}
}

// List gives the open alerts, or all, the newest first.
func (b *Book) List(all bool) []Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Record
	for _, e := range b.records {
		if all || e.Open() || slices.ContainsFunc(e.Sent, func(s Sending) bool { return s.Dead }) {
			out = append(out, *e.clone())
		}
	}
	slices.SortFunc(out, func(x, y Record) int {
		if c := y.Raised.Compare(x.Raised); c != 0 {
			return c
		}
		return strings.Compare(x.ID, y.ID)
	})
	return out
}

// Ack notes that somebody has seen an alert. One that stays until then is over with it. id may be a unique beginning.
func (b *Book) Ack(ctx context.Context, id, by, reason string) (Record, error) {
	return b.change(ctx, id, func(r *Record) bool {
		if r.Acked != nil {
			return false
		}
		now := b.now().UTC()
		r.Acked, r.AckedBy, r.AckReason = &now, by, reason
		if r.Stays && r.Open() {
			r.clear(now, "acknowledged by "+by)
		}
		return true
	})
}

// Retry has what was given up sent again.
func (b *Book) Retry(ctx context.Context, id string) (Record, error) {
	return b.change(ctx, id, func(r *Record) (any bool) {
		for i := range r.Sent {
			if r.Sent[i].Dead {
				r.Sent[i].Dead, r.Sent[i].Attempts, r.Sent[i].Next, any = false, 0, time.Time{}, true
			}
		}
		return any
	})
}

func (b *Book) change(ctx context.Context, id string, f func(*Record) bool) (Record, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found *entry
	for _, e := range b.records {
		if id != "" && strings.HasPrefix(e.ID, id) {
			if found != nil {
				return Record{}, fmt.Errorf("change alert %q: %w", id, ErrMany)
			}
			found = e
		}
	}
	if found == nil {
		return Record{}, fmt.Errorf("change alert %q: %w", id, ErrNoAlert)
	}
	r := found.clone()
	if f(r) {
		if err := b.store(ctx, &entry{r, found.seq}); err != nil {
			return Record{}, err
		}
	}
	return *r.clone(), nil
}

// Handler gives a handler for FEED that writes what events say into the book.
func (b *Book) Handler() func(context.Context, events.FeedMessage) error {
	return func(ctx context.Context, m events.FeedMessage) error {
		for _, c := range Of(m) {
			if err := b.Take(ctx, c); err != nil {
				return err
			}
		}
		return nil
	}
}

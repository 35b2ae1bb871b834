package alerts

import (
	"context"
	"fmt"
	"time"
)

// Sender tells one receiver. Send is called again with the same message until it returns nil, or it is given up.
type Sender interface {
	Name() string // permanent: the book says by it who was told
	Send(ctx context.Context, m Message) error
}

// Message is what a receiver gets: an alert, and what has become of it.
type Message struct {
	ID    string `json:"id"`   // of the alert
	Edge  string `json:"edge"` // Raised or Cleared
	Cloud string `json:"cloud,omitempty"`
	Alert Record `json:"alert"`
}

// Patience says how often and how long a receiver is tried.
type Patience struct {
	First    time.Duration // before the second attempt, doubled for each; default 1 s
	Longest  time.Duration // default 5 min
	Attempts int           // then it is given up; default 40, which takes about three hours
	Timeout  time.Duration // of one attempt; default 20 s
}

func (p Patience) withDefaults() Patience {
	if p.First == 0 {
		p.First = time.Second
	}
	if p.Longest == 0 {
		p.Longest = 5 * time.Minute
	}
	if p.Attempts == 0 {
		p.Attempts = 40
	}
	if p.Timeout == 0 {
		p.Timeout = 20 * time.Second
	}
	return p
}

func (p Patience) pause(attempts int) time.Duration {
	return min(p.First<<min(attempts-1, 20), p.Longest)
}

// Deliver sends what is in the book, each receiver by itself, until ctx ends.
func (b *Book) Deliver(ctx context.Context, p Patience) error {
	p = p.withDefaults()
	done := make(chan struct{})
	for _, s := range b.senders {
		go func() { b.deliver(ctx, s, p); done <- struct{}{} }()
	}
	for range b.senders {
		<-done
	}
	if len(b.senders) == 0 {
		<-ctx.Done()
	}
	return nil
}

func (b *Book) deliver(ctx context.Context, s Sender, p Patience) {
	for ctx.Err() == nil {
		m, wait, changed := b.due(s.Name())
		if m == nil {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-changed:
			case <-timer.C:
			}
			timer.Stop()
			continue
		}
		sctx, cancel := context.WithTimeout(ctx, p.Timeout)
		err := s.Send(sctx, *m)
		cancel()
		if ctx.Err() != nil && err != nil {
			return // we stop; it is sent again
		}
		if err := b.sent(context.WithoutCancel(ctx), s.Name(), m, err, p); err != nil { // also when we stop: it need not be sent again
			b.log.Warn("an alert was sent, or not, and the book does not know: it is sent again", "id", m.ID, "edge", m.Edge, "error", err)
			timer := time.NewTimer(p.First)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
			timer.Stop()
		}
	}
}

// due gives the oldest message that is due, or how long to wait for one.
func (b *Book) due(sender string) (*Message, time.Duration, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, wait := b.now(), time.Minute
	var oldest *entry
	var edge string
	for _, e := range b.records {
		s, again := e.next(sender, now)
		switch {
		case s != nil && (oldest == nil || e.earlier(oldest.Record)):
			oldest, edge = e, s.Edge
		case s == nil && !again.IsZero():
			wait = min(wait, max(again.Sub(now), time.Millisecond))
		}
	}
	if oldest == nil {
		return nil, wait, b.changed
	}
	r := *oldest.clone()
	r.Sent = nil // whom else we tell is not for the receiver
	return &Message{ID: r.ID, Edge: edge, Alert: r}, 0, nil
}

// sent notes what became of a message.
func (b *Book) sent(ctx context.Context, sender string, m *Message, failed error, p Patience) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.records[m.ID]
	if !ok {
		return fmt.Errorf("note what was sent: %w", ErrNoAlert)
	}
	r := e.clone()
	for i := range r.Sent {
		s := &r.Sent[i]
		if s.Sender != sender || s.Edge != m.Edge || !s.pending() {
			continue
		}
		s.Attempts++
		if failed == nil {
			s.Done, s.Error, s.Next = b.now().UTC(), "", time.Time{}
			break
		}
		s.Error, s.Next = failed.Error(), b.now().UTC().Add(p.pause(s.Attempts))
		if s.Dead = s.Attempts >= p.Attempts; s.Dead {
			b.log.Error("an alert could not be sent and is given up (cloudengine alert retry)", "id", m.ID, "edge", m.Edge, "to", sender, "error", failed)
		} else {
			b.log.Warn("an alert could not be sent, it is tried again", "id", m.ID, "edge", m.Edge, "to", sender, "attempt", s.Attempts, "error", failed)
		}
		break
	}
	return b.store(ctx, &entry{r, e.seq})
}

package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloudengine/commands"
	"cloudengine/events"
	"cloudengine/events/archive"
	"cloudengine/projections"
)

// a log of an earlier release.
type log struct {
	name     string
	payloads [][]byte
	blocks   []*events.Block
}

func (l *log) recorded() []events.Recorded {
	var out []events.Recorded
	for _, b := range l.blocks {
		out = append(out, b.Recorded()...)
	}
	return out
}

// logs reads all of testdata, and verifies the chains.
func logs(t *testing.T) []*log {
	t.Helper()
	files, err := filepath.Glob("testdata/*/*.log")
	if err != nil || len(files) < 3 {
		t.Fatalf("logs: %v %v", files, err)
	}
	var out []*log
	for _, file := range files {
		l := &log{name: strings.TrimPrefix(file, "testdata/")}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		var at events.Position
		_, _, err = archive.Read(f, func(seq uint64, payload []byte) error {
			b, err := events.DecodeBlock(payload)
			if err != nil {
				return err
			}
			l.payloads, l.blocks = append(l.payloads, payload), append(l.blocks, b)
			at, err = at.Next(seq, b, events.Digest(payload))
			return err
		})
		_ = f.Close()
		if err != nil {
			t.Fatalf("%s: %v", l.name, err)
		}
		out = append(out, l)
	}
	return out
}

// neverDecided are events that the core of f2206a2 had a name for and never decided.
var neverDecided = []string{"machine.contradicted.v1"}

// TestEveryEventOfTheLastReleaseIsThere keeps the logs complete, and every event known.
func TestEveryEventOfTheLastReleaseIsThere(t *testing.T) {
	raw, err := os.ReadFile("testdata/f2206a2/events.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, l := range logs(t) {
		for _, r := range l.recorded() {
			for _, e := range r.Events {
				seen[e.Type] = true
				if u, unknown := e.Data.(events.Unknown); unknown {
					t.Errorf("%s, decision %d: %s is not known any more", l.name, r.Number, u.Type)
				}
			}
		}
	}
	for _, name := range strings.Fields(string(raw)) {
		if !seen[name] && !slices.Contains(neverDecided, name) {
			t.Errorf("no log holds %s", name)
		}
		if !slices.Contains(events.Names(), name) {
			t.Errorf("%s cannot be read any more", name)
		}
	}
}

// TestFoldedAndProjected: today's fold takes the log, its invariants hold, and no row is parked.
func TestFoldedAndProjected(t *testing.T) {
	for _, l := range logs(t) {
		state, audit, rows := commands.NewState(), commands.NewAudit(), projections.NewMemory()
		for _, r := range l.recorded() {
			state.Evolve(r)
			audit.Add(r)
			if err := rows.Apply(&r); err != nil {
				t.Fatalf("%s, decision %d: %v", l.name, r.Number, err)
			}
		}
		if b := audit.Broken(); len(b) > 0 {
			t.Errorf("%s: %v", l.name, b)
		}
		if p := rows.Parked(); len(p) > 0 {
			t.Errorf("%s: parked: %+v", l.name, p)
		}
		if u := state.UnknownTypes(); len(u) > 0 {
			t.Errorf("%s: %v", l.name, u)
		}
		if state.Next() != uint64(len(l.recorded()))+1 {
			t.Errorf("%s: the fold is at %d", l.name, state.Next())
		}
	}
}

// different says, by decision, where this version decides otherwise on purpose, and why.
var different = map[string]string{}

// TestDecidedTheSame decides every intent of the log again, on the fold of all before it.
func TestDecidedTheSame(t *testing.T) {
	for _, l := range logs(t) {
		state, n := commands.NewState(), 0
		for _, r := range l.recorded() {
			again := state.Decide(commands.Command{
				Intent: r.Intent, Actor: r.Actor, Kind: r.Kind, Verb: r.Verb, Args: r.Args, Expect: r.Expect, Override: r.Override,
				Cause: r.Cause, Correlation: r.Correlation, Reason: r.Reason,
			}, r.Time)
			key := fmt.Sprintf("%s %d", l.name, r.Number)
			if was, is := told(r.Decision), told(again); was != is && different[key] == "" {
				t.Errorf("%s (%s.%s by %s):\n was %s\n is  %s", key, r.Kind, r.Verb, r.Actor, was, is)
			} else if was == is && different[key] != "" {
				t.Errorf("%s is decided as before: strike it from the list", key)
			}
			state.Evolve(r)
			n++
		}
		t.Logf("%s: %d decisions", l.name, n)
	}
}

// computed are fields that follow from what is known of hypervisors, and become more exact from release to release: what a domain takes
// on top of its memory, and the scores that follow from it.
var computed = []string{"overhead_mib", "scores", "rest"}

// told is a decision's outcome and events, without what was said for people and what is computed.
func told(d events.Decision) string {
	var out []string
	for _, e := range d.Events {
		raw, err := json.Marshal(e)
		var plain map[string]any
		if err := errors.Join(err, json.Unmarshal(raw, &plain)); err != nil {
			return err.Error()
		}
		if data, is := plain["data"].(map[string]any); is {
			for _, name := range computed {
				delete(data, name)
			}
		}
		raw, err = json.Marshal(plain) // in the order of the names
		if err != nil {
			return err.Error()
		}
		out = append(out, string(raw))
	}
	return string(d.Outcome.Status) + " " + d.Outcome.Code + " " + d.Outcome.Guard + " " + strings.Join(out, " ")
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

// intentFlags are the flags of every command that changes something.
type intentFlags struct {
	id, reason string
	override   []string
	dryRun     bool
	wait       bool
	timeout    time.Duration

	fills string // no flag: volume whose filling is told of while the end is waited for; empty: the one that is made, if one is
}

func (f *intentFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.id, "id", "", "id of the intent: a UUID, or any text of yours; the same id again gives the first outcome again")
	fs.StringVar(&f.reason, "reason", "", "why; kept for ever and seen by auditors, so no personal data")
	fs.StringSliceVar(&f.override, "override", nil, "name of a guard that must not refuse this; needs --reason, and is recorded loudly")
	fs.BoolVar(&f.dryRun, "dry-run", false, "print what would be decided now, and do nothing")
	fs.BoolVar(&f.wait, "wait", false, "wait until the operation is over")
	fs.DurationVar(&f.timeout, "timeout", 2*time.Minute, "how long to ask for an answer, and with --wait for the end of the operation")
}

// intent is what a command wants to be decided.
type intent struct {
	kind   events.Kind
	verb   string
	args   any
	expect string // name of the object as we saw it
	said   string // what to print for -o name: the object's name
}

// send sends an intent, prints its id first and its outcome after, and waits for the operation if asked to.
func (a *app) send(ctx context.Context, c *client.Client, f *intentFlags, in intent) (events.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	id := client.NewID()
	if f.id != "" {
		id = events.FreeFormID(c.Actor(), f.id)
	}
	a.talk("intent %s", id)
	opts := []client.Option{client.WithID(id), client.WithReason(f.reason), client.WithOverride(f.override...)}
	if in.expect != "" {
		opts = append(opts, client.WithName(in.expect))
	}
	if f.dryRun {
		opts = append(opts, client.WithDryRun())
	}
	answer, err := c.Do(ctx, in.kind, in.verb, in.args, opts...)
	if err != nil {
		return answer, err
	}
	if err := a.told(answer, in, f.dryRun); err != nil {
		return answer, err
	}
	if answer.Number > 0 && answer.Outcome.Status == events.Accepted {
		a.settle(ctx, c, answer.Number)
	}
	if f.wait && !f.dryRun && answer.Outcome.Status == events.Accepted {
		fills := f.fills
		if fills == "" && (in.verb == "import" || in.verb == "create" && (in.kind == events.KindVolume || in.kind == events.KindVM)) {
			fills = string(id)
		}
		return answer, a.waitFor(ctx, c, answer, &fillTeller{a: a, volume: fills, told: time.Now()})
	}
	return answer, nil
}

// settle waits a moment until the read models have a decision, so that the next command sees what this one did. They may be behind
// or away: that changes nothing about the decision.
func (a *app) settle(ctx context.Context, c *client.Client, number uint64) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := c.Read(ctx, events.KindAccount, "list", events.ReadRequest{Limit: 1, WaitFor: number}); err != nil {
		a.talk("the read models are behind: what you read next may not show it yet")
	}
}

// told prints an outcome: talk on stderr, and on stdout what a program would want of it.
func (a *app) told(answer events.Answer, in intent, dryRun bool) error {
	refused := client.Check(answer)
	switch {
	case refused != nil && answer.Number > 0:
		a.talk("refused, and recorded as decision %d", answer.Number)
	case refused != nil:
	case dryRun:
		a.talk("dry run: this would be %s; nothing was done", word(answer.Outcome.Status))
	case answer.Outcome.Status == events.Nothing:
		a.talk("nothing to do: it is so already (decision %d)", answer.Number)
	default:
		a.talk("accepted as decision %d", answer.Number)
	}
	switch {
	case a.output == "json":
		return errors.Join(refused, a.json(answer))
	case a.output == "yaml":
		return errors.Join(refused, a.yaml(answer))
	case refused != nil:
	case dryRun:
		return a.list(eventColumns, eventRows(answer.Events))
	case a.output == "name":
		fmt.Fprintln(a.out, in.said)
	case in.verb == "create" || in.verb == "add":
		fmt.Fprintln(a.out, answer.ID) // the id of what was made
	}
	return refused
}

func word(s events.Status) string {
	if s == events.Nothing {
		return "nothing to do"
	}
	return string(s)
}

var eventColumns = []column{field("OBJECT", "aggregate"), field("EVENT", "type"), field("DATA", "data")}

func eventRows(list []events.Event) []row {
	var rows []row
	for _, e := range list {
		raw, err := json.Marshal(e)
		if err != nil {
			continue // events that were decoded can be encoded
		}
		if r, err := parseRow(raw); err == nil {
			rows = append(rows, r)
		}
	}
	return rows
}

// waitFor waits until an operation is over. Its end decides the exit code. t tells how far it is meanwhile.
func (a *app) waitFor(ctx context.Context, c *client.Client, answer events.Answer, t *fillTeller) error {
	last := ""
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		op, err := a.get(ctx, c, events.KindOperation, string(answer.ID), events.ReadRequest{WaitFor: answer.Number})
		if ctx.Err() != nil {
			return fmt.Errorf("wait for operation %s: %w", answer.ID, errTimeout)
		}
		if err != nil {
			return err
		}
		if now := op.text("state"); now != last {
			last = now
			a.talk("operation %s", now)
		}
		t.tell(ctx, c)
		if last != "running" {
			return ended(op)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func ended(op row) error {
	message := ""
	if m, ok := op["message"].(string); ok {
		message = ": " + m
	}
	switch op.text("state") {
	case "failed":
		return fmt.Errorf("operation %s failed%s", op.text("id"), message)
	case "timed_out":
		return fmt.Errorf("operation %s timed out%s (what was wanted stays wanted): %w", op.text("id"), message, errTimeout)
	case "refused":
		return &client.Refusal{Outcome: events.Outcome{Status: events.Refused, Code: op.text("code"), Message: op.text("message")}}
	}
	return nil
}

// actOn is a command that sends one intent about one object that exists: "vm start NAME".
type actOn struct {
	kind    events.Kind
	verb    string // of the intent, and of the command unless use names another
	use     string
	short   string
	long    string
	example string
	flags   func(cmd *cobra.Command)
	more    func(ctx context.Context, c *client.Client, args map[string]any) error // adds to the intent's arguments
}

func (a *app) actOn(s actOn) *cobra.Command {
	if s.use == "" {
		s.use = s.verb
	}
	var f intentFlags
	cmd := &cobra.Command{
		Use: s.use + " NAME|ID", Short: s.short, Long: s.long, Example: s.example, Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(s.kind),
		RunE: func(cmd *cobra.Command, words []string) error {
			ctx := cmd.Context()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			object, err := a.find(ctx, c, s.kind, words[0])
			if err != nil {
				return err
			}
			args := map[string]any{string(s.kind): object.text("id")}
			if s.more != nil {
				if err := s.more(ctx, c, args); err != nil {
					return err
				}
			}
			name := nameOf(object)
			_, err = a.send(ctx, c, &f, intent{s.kind, s.verb, maps.Clone(args), name, name})
			return err
		},
	}
	f.add(cmd)
	if s.flags != nil {
		s.flags(cmd)
	}
	return cmd
}

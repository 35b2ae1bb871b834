package main

import (
	"context"
	"fmt"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

// importTo puts the image of a template onto each array of a pool, one intent for each.
func (a *app) importTo(ctx context.Context, c *client.Client, f *intentFlags, template row, pool string) error {
	p, err := a.find(ctx, c, events.KindPool, pool)
	if err != nil {
		return fmt.Errorf("find pool %s: %w", pool, err)
	}
	arrays, err := a.all(ctx, c, events.KindArray, events.ReadRequest{Filter: map[string]string{"pool": p.text("id")}})
	if err != nil {
		return err
	}
	if len(arrays) == 0 {
		return fmt.Errorf("put template %s into pool %s: it has no arrays yet", template.text("name"), p.text("name"))
	}
	var first error
	for _, x := range arrays { // one that cannot have it keeps it from no other
		if err := a.importOnto(ctx, c, *f, template, x); err != nil && first == nil {
			first = fmt.Errorf("put template %s onto array %s: %w", template.text("name"), x.text("name"), err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return first
}

func (a *app) importOnto(ctx context.Context, c *client.Client, f intentFlags, template, array row) error {
	if f.id != "" {
		f.id += "/" + array.text("name")
	}
	there, err := a.all(ctx, c, events.KindVolume, events.ReadRequest{Filter: map[string]string{
		"template": template.text("id"), "array": array.text("id"), "golden": "true"}})
	if err != nil {
		return err
	}
	in := intent{kind: events.KindTemplate, verb: "import", args: map[string]any{"template": template.text("id"), "array": array.text("id")},
		expect: template.text("name"), said: template.text("name") + "@" + array.text("name")}
	for _, v := range there {
		if v.text("state") != "wiping" {
			f.fills = v.text("id")
		}
	}
	a.talk("template %s onto array %s", template.text("name"), array.text("name"))
	_, err = a.send(ctx, c, &f, in)
	return err
}

// fillTeller tells how far the filling of a volume is, and of the golden volume that it is copied from.
type fillTeller struct {
	a      *app
	volume string
	told   time.Time
	failed string
}

// tell is called as often as one likes. What cannot be found out is left out: it is the operation that counts.
func (t *fillTeller) tell(ctx context.Context, c *client.Client) {
	if t.volume == "" || time.Since(t.told) < progressEvery {
		return
	}
	t.told = time.Now()
	for id := t.volume; id != ""; {
		v, err := t.a.get(ctx, c, events.KindVolume, id, events.ReadRequest{})
		if err != nil {
			return
		}
		if why := words(v, "message"); why != "" && why != t.failed {
			t.failed = why
			t.a.talk("volume %s could not be filled: %s", v.text("name"), why)
		}
		if p, ok := t.a.fillOf(ctx, c, v, map[string]events.StorageReport{}); ok && p.What != events.FillWait {
			t.a.talk("%s", fillLine(v.text("name"), p))
		}
		id = words(v, "copied_from")
	}
}

func fillLine(name string, p events.FillProgress) string {
	line := fmt.Sprintf("%s: %s %s of %s", name, p.What, mib(p.Done), mib(p.Bytes))
	if p.Bytes > 0 {
		line += fmt.Sprintf(" (%d %%)", p.Done*100/p.Bytes)
	}
	if p.Rate > 0 {
		line += fmt.Sprintf(", %s/s, %s left", mib(p.Rate), time.Duration(p.ETA)*time.Second)
	}
	return line
}

// fillOf asks the owner of its array how far the filling of a volume is. asked keeps what owners said.
func (a *app) fillOf(ctx context.Context, c *client.Client, v row, asked map[string]events.StorageReport) (events.FillProgress, bool) {
	if s := v.text("state"); s != "making" && s != "failed" {
		return events.FillProgress{}, false
	}
	array, err := a.get(ctx, c, events.KindArray, v.text("array"), events.ReadRequest{})
	if err != nil || words(array, "owner") == "" {
		return events.FillProgress{}, false // also users of an account, who do not see arrays
	}
	owner := array.text("owner")
	seen, ok := asked[owner]
	if !ok {
		if seen, err = c.Storage(ctx, events.MachineID(owner)); err != nil {
			a.talk("how far volume %s is: %v", v.text("name"), err)
		}
		asked[owner] = seen
	}
	for _, x := range seen.Arrays {
		for _, p := range x.Fills {
			if string(p.Volume) == v.text("id") {
				return p, true
			}
		}
	}
	return events.FillProgress{}, false
}

var fillColumns = []column{field("VOLUME", "volume"), field("NOW", "what"), field("DONE", "done"), field("RATE", "rate"), field("LEFT", "left")}

// withFills adds to a command that lists or shows volumes how far those are that are being filled now.
func (a *app) withFills(cmd *cobra.Command) *cobra.Command {
	plain := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := plain(cmd, args); err != nil || a.output != "table" || cmd.Flags().Changed("at") || cmd.Flags().Changed("watch") {
			return err
		}
		ctx := cmd.Context()
		c, err := a.connect(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		var shown []row
		if len(args) > 0 {
			v, err := a.find(ctx, c, events.KindVolume, args[0])
			if err != nil {
				return err
			}
			shown = append(shown, v)
		} else if shown, err = a.all(ctx, c, events.KindVolume, events.ReadRequest{}); err != nil {
			return err
		}
		var out []row
		asked := map[string]events.StorageReport{}
		for _, v := range shown {
			if p, ok := a.fillOf(ctx, c, v, asked); ok {
				out = append(out, fillRow(v.text("name"), p))
			}
		}
		if len(out) == 0 {
			return nil
		}
		fmt.Fprintln(a.out)
		return a.list(fillColumns, out)
	}
	return cmd
}

func fillRow(name string, p events.FillProgress) row {
	r := row{"volume": name, "what": p.What, "done": mib(p.Done) + " of " + mib(p.Bytes), "rate": "?", "left": "?"}
	if p.Rate > 0 {
		r["rate"], r["left"] = mib(p.Rate)+"/s", (time.Duration(p.ETA) * time.Second).String()
	}
	return r
}

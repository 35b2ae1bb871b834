package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

// rollFlags say how images are rolled out and back.
type rollFlags struct {
	canary   int
	machines []string
	goOn     bool
	reboot   bool
	deadline time.Duration
	empty    time.Duration
	reason   string
}

const rollLong = `Give hosts an image, one after the other: set the image that each boots next, take it out of placement, wait until it runs no VM,
switch it off and on over its BMC, and wait until it has enrolled with that image and reported completely; then put it back.

A host that runs VMs is never switched off: the roll stops there and says so. A host that does not come back with the image within
--deadline is given back the image that it ran before, is switched off and on once more, and the roll ends.

Every step is an intent of its own in the log (op list), and all that the roll knows is there: when it was interrupted, run the same command
again, and it goes on where it was.`

func (a *app) bootimageRoll() *cobra.Command {
	var f rollFlags
	cmd := &cobra.Command{
		Use: "roll IMAGE", Short: "Let hosts boot an image, first a few, and go back if one does not come up", Args: cobra.ExactArgs(1), Long: rollLong,
		Example: `  cloudengine bootimage roll 7888878055d9424a --canary 1
  cloudengine bootimage roll 7888878055d9424a
  cloudengine bootimage roll november --machines host3,host4 --deadline 15m`,
		ValidArgsFunction: a.complete(events.KindBootimage),
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.withRoll(cmd.Context(), f, "roll", words[0], (*roll).forward)
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&f.canary, "canary", 0, "so many hosts first, and then stop and say what comes next (0: all)")
	cmd.Flags().BoolVar(&f.goOn, "go-on", false, "after the canaries came up, go on with the others")
	return cmd
}

// withRoll does something about a registered image. word is what the steps' ids begin with.
func (a *app) withRoll(ctx context.Context, f rollFlags, word, image string, do func(*roll, context.Context) error) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	version, err := a.registered(ctx, c, image)
	if err != nil {
		return err
	}
	return do(&roll{app: a, c: c, flags: f, version: version, word: word + " " + version}, ctx)
}

func (a *app) bootimageRollback() *cobra.Command {
	var f rollFlags
	cmd := &cobra.Command{
		Use: "rollback IMAGE", Short: "Set the hosts that are to boot an image back to the one before", Args: cobra.ExactArgs(1),
		Long: `Set the hosts that are to boot an image back to the image that each of them ran before. It takes effect at their next boot; with --reboot
they are rebooted one after the other, as by "bootimage roll" and under the same rules.`,
		Example:           "  cloudengine bootimage rollback 7888878055d9424a --reason \"drops packets\"\n  cloudengine bootimage rollback 7888878055d9424a --machines host1 --reboot",
		ValidArgsFunction: a.complete(events.KindBootimage),
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.withRoll(cmd.Context(), f, "rollback", words[0], (*roll).back)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.reboot, "reboot", false, "reboot them into it, one after the other")
	return cmd
}

func (f *rollFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringSliceVar(&f.machines, "machines", nil, "only these machines (default: all hosts)")
	fs.DurationVar(&f.deadline, "deadline", rollDeadline, "how long after its power was switched a host may take to come back")
	fs.DurationVar(&f.empty, "wait-empty", 0, "how long to wait for a host's VMs to be gone; 0: stop at once if it runs any")
	fs.StringVar(&f.reason, "reason", "", "why; kept for ever and seen by auditors, so no personal data")
}

// causeOfRoll begins what the intents of a roll say as their cause.
const causeOfRoll = "bootimage "

// roll is one run of the command. It keeps nothing that is not in the log.
type roll struct {
	*app
	c       *client.Client
	flags   rollFlags
	version string
	word    string // what the intents are for: their correlation
}

// forward rolls the image out.
func (r *roll) forward(ctx context.Context) error {
	list, err := r.chosen(ctx)
	if err != nil {
		return err
	}
	if err := r.order(ctx, list); err != nil {
		return err
	}
	first := len(list)
	if r.flags.canary > 0 {
		first = min(r.flags.canary, first)
	}
	for i, m := range list {
		if i == first && !r.flags.goOn {
			r.talk("%d of %d hosts run image %s. Look at them; then, for the others: cloudengine bootimage roll %s; or back: cloudengine bootimage rollback %s --reboot",
				first, len(list), r.version, r.version, r.version)
			return nil
		}
		if err := r.host(ctx, m, r.version); err != nil {
			return err
		}
	}
	r.talk("all %d hosts run image %s. For machines to come: cloudengine bootimage default %s", len(list), r.version, r.version)
	return nil
}

// back sets machines back to what they ran before.
func (r *roll) back(ctx context.Context) error {
	list, err := r.chosen(ctx)
	if err != nil {
		return err
	}
	done := 0
	for _, m := range list {
		wants := optionalText(m, "image_next") == r.version
		turned := optionalText(m, "image_before") == r.version && optionalText(m, "image") != optionalText(m, "image_next") // by a run that was interrupted
		if !wants && !(turned && r.flags.reboot) {
			continue
		}
		done++
		before := m.text("image_wanted")
		if wants {
			if before = optionalText(m, "image_before"); before == "-" {
				return fmt.Errorf("roll back %s: no image before %s is known for it: name one (cloudengine machine set-image %s VERSION)", nameOf(m), r.version, nameOf(m))
			}
		}
		if !r.flags.reboot {
			if _, err := r.want(ctx, m, before); err != nil {
				return err
			}
			r.talk("%s: image %s takes effect at its next boot", nameOf(m), before)
			continue
		}
		if err := r.host(ctx, m, before); err != nil {
			return err
		}
	}
	if done == 0 {
		r.talk("nothing to do: no machine is to boot image %s", r.version)
	}
	return nil
}

// chosen lists the machines of --machines, or all hosts.
func (r *roll) chosen(ctx context.Context) ([]row, error) {
	if len(r.flags.machines) == 0 {
		list, err := r.all(ctx, r.c, events.KindMachine, events.ReadRequest{})
		if err == nil && len(list) == 0 {
			err = errors.New("there are no machines")
		}
		return list, err
	}
	var list []row
	for _, name := range r.flags.machines {
		m, err := r.find(ctx, r.c, events.KindMachine, name)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// order puts those first that are begun, then those that run no VM; by name. So a second run goes on with what the first began.
func (r *roll) order(ctx context.Context, list []row) error {
	hosts, err := r.all(ctx, r.c, events.KindHost, events.ReadRequest{})
	if err != nil {
		return err
	}
	vms := map[string]uint64{}
	for _, h := range hosts {
		vms[h.text("id")] = h.number("vms")
	}
	rank := func(m row) int {
		switch {
		case optionalText(m, "image_wanted") == r.version:
			return 0
		case vms[m.text("id")] == 0:
			return 1
		}
		return 2
	}
	slices.SortFunc(list, func(a, b row) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(nameOf(a), nameOf(b))) })
	return nil
}

// want sets the image that a machine boots next, and gives the machine as it is then.
func (r *roll) want(ctx context.Context, m row, version string) (row, error) {
	if optionalText(m, "image_wanted") != version {
		args := map[string]any{"machine": m.text("id"), "image": version}
		if _, err := r.do(ctx, client.NewID(), events.KindMachine, "set_image", nameOf(m), args); err != nil {
			return nil, err
		}
		r.talk("%s: image %s at its next boot", nameOf(m), version)
	}
	return r.machine(ctx, m)
}

// machine reads a machine again.
func (r *roll) machine(ctx context.Context, m row) (row, error) {
	return r.get(ctx, r.c, events.KindMachine, m.text("id"), events.ReadRequest{})
}

// do sends an intent of the roll and waits until the read models have it. A refusal is an error.
func (r *roll) do(ctx context.Context, id events.IntentID, kind events.Kind, verb, name string, args map[string]any) (events.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	answer, err := r.c.Do(ctx, kind, verb, args, client.WithID(id), client.WithName(name), client.WithReason(r.flags.reason),
		client.WithCause(causeOfRoll+r.word), client.WithCorrelation(causeOfRoll+r.word))
	if err == nil {
		err = client.Check(answer)
	}
	if err != nil {
		return answer, fmt.Errorf("%s %s %s: %w", kind, verb, name, err)
	}
	r.settle(ctx, r.c, answer.Number)
	return answer, nil
}

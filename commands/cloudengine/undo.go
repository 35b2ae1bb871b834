package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cloudengine/commands"
	"cloudengine/commands/api/client"
	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections/history"

	"github.com/spf13/cobra"
)

// undoCommand prints what would compensate an intent.
func (a *app) undoCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "undo INTENT", Short: "Print the commands that would compensate an intent; does nothing", Args: cobra.ExactArgs(1),
		Long: `Print the commands that would compensate an intent that was accepted, judged by what its object was before it and is now. Nothing is
done: run what is printed, or parts of it. What cannot be undone says why, with exit code 4. Nothing goes back in the log: what was
decided stays there, and what is printed are new intents.`,
		Example:           "  cloudengine undo 0190b6a4-0000-7000-8000-000000000001\n  cloudengine undo 0190b6a4 -o json",
		ValidArgsFunction: a.complete(events.KindOperation),
		RunE: func(cmd *cobra.Command, words []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			u, number, err := a.undoing(ctx, c, words[0])
			if err != nil {
				return err
			}
			return a.printUndo(u, number)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "how long to wait for the server")
	return cmd
}

// undoing finds the intent, and what its object was and is.
func (a *app) undoing(ctx context.Context, c *client.Client, ref string) (u commands.Undoing, number uint64, err error) {
	op, err := a.find(ctx, c, events.KindOperation, ref)
	if err != nil {
		return u, 0, err
	}
	number = op.number("number")
	e, err := a.decisionOf(ctx, c, op.text("intent"), number)
	if err != nil {
		return u, 0, err
	}
	u.Decision = e.Decision
	if op["object"] == nil || number < 2 {
		return u, number, nil
	}
	kind, id := e.Kind, op.text("object")
	if u.Before, err = rowOrNone(a.get(ctx, c, kind, id, events.ReadRequest{At: strconv.FormatUint(number-1, 10)})); err != nil {
		return u, number, err
	}
	u.Now, err = rowOrNone(a.get(ctx, c, kind, id, events.ReadRequest{}))
	return u, number, err
}

// decisionOf reads a decision from the log.
func (a *app) decisionOf(ctx context.Context, c *client.Client, intent string, number uint64) (history.Entry, error) {
	ans, err := c.History(ctx, wire.HistoryRequest{Kind: events.KindOperation, ID: intent, After: number - 1, Limit: 1})
	if err != nil {
		return history.Entry{}, err
	}
	if len(ans.Items) != 1 || ans.Items[0].Number != number {
		return history.Entry{}, fmt.Errorf("read decision %d: the log does not tell of it", number)
	}
	return ans.Items[0], nil
}

// rowOrNone takes an object that is not there, or of a kind that has no rows, for none.
func rowOrNone(r row, err error) (map[string]any, error) {
	var no *client.Refusal
	if errors.As(err, &no) && (no.Outcome.Code == events.CodeNotFound || no.Outcome.Code == events.CodeInvalid && strings.Contains(no.Outcome.Message, "nothing to read")) {
		return nil, nil
	}
	return r, err
}

// undoStep is a step with the command line that does it.
type undoStep struct {
	commands.Step
	Command string `json:"command,omitempty"`
}

func (a *app) printUndo(u commands.Undoing, number uint64) error {
	steps, why := u.Undo()
	out := []undoStep{}
	for _, s := range steps {
		out = append(out, undoStep{s, commandLine(s)})
	}
	what := fmt.Sprintf("%s.%s of decision %d", u.Decision.Kind, u.Decision.Verb, number)
	if len(steps) == 0 {
		return &client.Refusal{ID: u.Decision.Intent, Outcome: events.Outcome{Status: events.Refused, Code: events.CodeConflict, Message: "nothing undoes " + what + ": " + why}}
	}
	switch a.output {
	case "json":
		return a.json(out)
	case "yaml":
		return a.yaml(out)
	}
	fmt.Fprintln(a.out, oneLine("# compensates "+what))
	for _, s := range out {
		fmt.Fprintln(a.out, oneLine("# "+s.Note))
		fmt.Fprintln(a.out, oneLine(s.Command))
	}
	return nil
}

// commandLine gives the command line of an intent. One that this program has no flags for is given as the request on the bus.
func commandLine(s commands.Step) string {
	words := []string{"cloudengine", string(s.Kind)}
	id := fmt.Sprint(s.Args[string(s.Kind)])
	switch name := string(s.Kind) + "." + s.Verb; name {
	case "machine.power":
		words = append(words, "power", fmt.Sprint(s.Args["action"]), id)
	case "machine.set_image":
		image := fmt.Sprint(s.Args["image"])
		if image == "" {
			image = "default"
		}
		words = append(words, "set-image", id, image)
	case "bootimage.remove":
		words = append(words, "rm", id)
	case "account.create":
		words = append(words, "create", fmt.Sprint(s.Args["name"]))
	case "machine.add":
		words = append(append(words, "add", fmt.Sprint(s.Args["name"])), machineFlags(s.Args)...)
	case "vm.resize":
		words = append(append(words, "resize", id), sizeFlags(s.Args)...)
	case "template.create":
		raw, err := json.Marshal(s.Args)
		if err != nil {
			return ""
		}
		return "# on the bus: do.<you>.template.create with the args " + string(raw)
	default:
		words = append(words, s.Verb, id)
	}
	for i, w := range words {
		words[i] = quoted(w)
	}
	return strings.Join(words, " ")
}

func machineFlags(args map[string]any) []string {
	var out []string
	list := func(flag string, v any) {
		if all, ok := v.([]any); ok {
			for _, x := range all {
				out = append(out, flag, fmt.Sprint(x))
			}
		}
	}
	list("--mac", args["macs"])
	list("--role", args["roles"])
	if serial, ok := args["serial"]; ok {
		out = append(out, "--serial", fmt.Sprint(serial))
	}
	if bmc, ok := args["bmc"].(map[string]any); ok {
		out = append(out, "--bmc", fmt.Sprint(bmc["address"]), "--bmc-user", fmt.Sprint(bmc["user"]), "--bmc-secret", fmt.Sprint(bmc["secret"]))
	}
	return out
}

func sizeFlags(args map[string]any) []string {
	var out []string
	if v, ok := args["memory_mib"]; ok {
		out = append(out, "--ram", fmt.Sprint(v)+"MiB")
	}
	if v, ok := args["vcpus"]; ok {
		out = append(out, "--vcpus", fmt.Sprint(v))
	}
	if v, ok := args["max_vcpus"]; ok {
		out = append(out, "--max-vcpus", fmt.Sprint(v))
	}
	return out
}

// quoted makes a text one word of a shell.
func quoted(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@+") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"cloudengine/commands/api"
	"cloudengine/commands/api/client"
	"cloudengine/events"
	"cloudengine/events/archive"
	"cloudengine/events/audit"

	"github.com/spf13/cobra"
)

// errTampered says that something is not what it was.
var errTampered = errors.New("this is not the log that it was")

func (a *app) auditVerifyCommand() *cobra.Command {
	var timeout time.Duration
	var invariants bool
	cmd := &cobra.Command{
		Use: "verify", Short: "Have the server check the whole log as it is stored", Args: cobra.NoArgs,
		Long: `Have the server read the whole log as it is stored and check: sequences, decision numbers, terms and times; that each block names the
one before by its digest; and that all decisions are those that the server hashed and signed before. What was changed, removed,
inserted, reordered or cut off is named. --invariants checks the platform's rules too, as "verify" does, which takes several times as
long. Exit code 4: something was found. It trusts the server; "audit check" does not.`,
		Example: "  cloudengine audit verify\n  cloudengine audit verify --invariants -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd, timeout, func(ctx context.Context, c *client.Client) error {
				found, err := c.Audit(ctx, invariants)
				if err != nil {
					return err
				}
				return a.printReport(found.Report, found)
			})
		},
	}
	cmd.Flags().BoolVar(&invariants, "invariants", false, "check the platform's invariants too")
	return timeoutFlag(cmd, &timeout)
}

// checkOptions name the files that are checked against each other.
type checkOptions struct {
	log, proof    string
	anchors, keys []string
}

func (a *app) auditCheckCommand() *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use: "check", Short: "Check a copy of the log against anchors, offline", Args: cobra.NoArgs,
		Long: `Check a copy of the log (--log, of "audit export" or a backup) against what was kept of it before (--anchor, of "audit anchor" or "audit
head"; several may be given). It asks no server. It says up to which decision the copy is proven to be what it was, or names what was
changed, removed, inserted, reordered or cut off. Without an anchor only the chain is checked: who can write the whole log can make
its digests anew. Without a copy, two or more anchors are held against each other, and --proof checks the proof of one decision.

The key in an anchor says who signed it; --key says who must have. Exit code 4: it is not what it was. 2: the files cannot be used.`,
		Example: `  cloudengine audit check --log log.copy --anchor monday.anchor
  cloudengine audit check --log log.copy --anchor monday.head --key cloudengine/4f1c…+0a1b2c3d+AR…
  zstd -dc backup | tar -xO log | cloudengine audit check --log - --anchor monday.anchor
  cloudengine audit check --anchor monday.anchor --anchor friday.anchor
  cloudengine audit check --proof 42.proof --anchor monday.anchor`,
		RunE: func(*cobra.Command, []string) error {
			witnesses, err := o.witnesses()
			switch {
			case err != nil:
				return unusable(err)
			case o.log != "" && o.proof != "":
				return usagef("--log and --proof are two checks: give one of them")
			case o.log == "-":
				return a.checkInput(witnesses)
			case o.log != "":
				return a.checkLog(o.log, witnesses)
			case o.proof != "":
				return a.checkProof(o, witnesses)
			case len(witnesses) > 1:
				return a.checkAnchors(witnesses)
			}
			return usagef("nothing to check: give --log, or --proof, or two --anchor")
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.log, "log", "", "copy of the log; -: on standard input")
	f.StringArrayVar(&o.anchors, "anchor", nil, "anchor, or signed head")
	f.StringArrayVar(&o.keys, "key", nil, "public key that must have signed the anchors (default: the one in each anchor)")
	f.StringVar(&o.proof, "proof", "", "proof of one decision")
	return cmd
}

// unusable makes errors about the files that were given usage errors: nothing is said of a log then.
func unusable(err error) error {
	for _, is := range []error{audit.ErrNotAnchor, audit.ErrNotHead, audit.ErrWrongKey, audit.ErrNoKey, audit.ErrOtherCloud, archive.ErrNotArchive, archive.ErrVersion} {
		if errors.Is(err, is) {
			return usageError{err}
		}
	}
	return err
}

func readAnchor(path string) (audit.Anchor, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return audit.Anchor{}, fmt.Errorf("read anchor: %w", err)
	}
	anchor, err := audit.ParseAnchor(raw)
	if err != nil {
		return anchor, usageError{fmt.Errorf("read anchor %s: %w", path, err)}
	}
	return anchor, nil
}

func (o *checkOptions) witnesses() ([]audit.Witness, error) {
	var out []audit.Witness
	for _, path := range o.anchors {
		anchor, err := readAnchor(path)
		if err != nil {
			return nil, err
		}
		head, err := anchor.Verify(o.keys...)
		if errors.Is(err, audit.ErrForged) {
			return nil, fmt.Errorf("anchor %s: %w: %w", path, err, errTampered)
		}
		if err != nil {
			return nil, fmt.Errorf("anchor %s: %w", path, err)
		}
		out = append(out, audit.Witness{Name: path, Head: head, Leaves: anchor.Leaves})
	}
	return out, nil
}

// checkInput checks the copy on standard input, by way of a file: a copy is read twice when something is wrong with it.
func (a *app) checkInput(witnesses []audit.Witness) error {
	f, err := os.CreateTemp("", "cloudengine-log-")
	if err != nil {
		return fmt.Errorf("keep standard input: %w", err)
	}
	_, err = io.Copy(f, a.in)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("keep standard input: %w", err), os.Remove(f.Name()))
	}
	return errors.Join(a.checkLog(f.Name(), witnesses), os.Remove(f.Name()))
}

// checkLog checks a copy. What the file itself says to be wrong is told with the rest.
func (a *app) checkLog(path string, witnesses []audit.Witness) error {
	var cut error
	walk := func(f func(uint64, []byte) error) error {
		in, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("read copy of the log: %w", err)
		}
		_, _, err = archive.Read(in, f)
		if errors.Is(err, archive.ErrCut) || errors.Is(err, archive.ErrTrailer) {
			cut, err = err, nil
		}
		return errors.Join(err, in.Close())
	}
	r, err := audit.Check(walk, witnesses, api.NewRules().Block)
	if err != nil {
		return unusable(fmt.Errorf("%s: %w", path, err))
	}
	switch {
	case errors.Is(cut, archive.ErrCut):
		r.Findings = append(r.Findings, audit.Finding{What: audit.Truncated, Seq: r.Blocks, Message: fmt.Sprintf("the file ends after block %d, in the middle: %v", r.Blocks, cut)})
	case cut != nil:
		r.Findings = append(r.Findings, audit.Finding{What: audit.Framing, Seq: r.Blocks, Message: cut.Error()})
	}
	for _, w := range witnesses {
		a.talk("%s: %d decisions, signed %s", w.Name, w.Head.Size, w.Head.Signed.Format(time.RFC3339))
	}
	if len(witnesses) == 0 {
		a.talk("no anchor was given: who can write the whole log can make its digests anew, and that would not be seen")
	}
	return a.printReport(r, r)
}

// printReport prints what was found, and is errTampered if there is something.
func (a *app) printReport(r audit.Report, whole any) error {
	var err error
	switch a.output {
	case "json":
		err = a.json(whole)
	case "yaml":
		err = a.yaml(whole)
	default:
		_, err = fmt.Fprintf(a.out, "cloud %s\n%d decisions in %d blocks, term %d, head %s\n", r.Cloud, r.Decisions, r.Blocks, r.Term, r.Head)
		if r.Proven > 0 {
			fmt.Fprintf(a.out, "decisions 1–%d are byte for byte those that were signed\n", r.Proven)
		}
		for _, f := range r.Findings {
			fmt.Fprintln(a.out, oneLine(f.String()))
		}
		if r.More > 0 {
			fmt.Fprintf(a.out, "and %d more\n", r.More)
		}
	}
	if n := len(r.Findings) + r.More; n > 0 {
		return errors.Join(err, fmt.Errorf("%w: %d findings", errTampered, n))
	}
	if r.Proven < r.Decisions {
		a.talk("of decisions %d–%d it is known that their chain is whole, and no more", r.Proven+1, r.Decisions)
	}
	return err
}

// checkAnchors holds each anchor against the largest.
func (a *app) checkAnchors(all []audit.Witness) error {
	last := all[0]
	for _, w := range all {
		if w.Head.Size > last.Head.Size || w.Head.Size == last.Head.Size && w.Leaves != nil {
			last = w
		}
	}
	for _, w := range all {
		same := w.Head.Size == last.Head.Size && w.Head.Root == last.Head.Root
		switch {
		case w.Head.Cloud != last.Head.Cloud:
			return usageError{fmt.Errorf("%s and %s: %w", w.Name, last.Name, audit.ErrOtherCloud)}
		case same:
		case last.Leaves == nil:
			return usagef("%s holds no hashes of decisions (it was made with --short): the two cannot be compared without a copy of the log", last.Name)
		case audit.RootOf(last.Leaves[:w.Head.Size]) != w.Head.Root:
			for _, f := range audit.Locate(w.Leaves, last.Leaves) {
				fmt.Fprintf(a.out, "from %s to %s: %s\n", w.Name, last.Name, oneLine(f.String()))
			}
			return fmt.Errorf("%s and %s were signed for logs of which one is not the continuation of the other: %w", w.Name, last.Name, errTampered)
		}
		fmt.Fprintf(a.out, "%s: %d decisions, signed %s\n", w.Name, w.Head.Size, w.Head.Signed.Format(time.RFC3339))
	}
	a.talk("they are heads of one log, which only grew")
	return nil
}

// checkProof checks that a decision is in the log of a signed head, which must be that of an anchor if there are any.
func (a *app) checkProof(o checkOptions, witnesses []audit.Witness) error {
	raw, err := os.ReadFile(o.proof)
	if err != nil {
		return fmt.Errorf("read proof: %w", err)
	}
	p, err := audit.ParseProof(raw)
	if err != nil {
		return usageError{fmt.Errorf("%s: %w", o.proof, err)}
	}
	keys := o.keys
	if p.Key == "" && len(keys) == 0 && len(witnesses) > 0 {
		return usagef("the anchor holds no key: give it with --key")
	}
	head, d, err := p.Verify(keys...)
	if errors.Is(err, audit.ErrNotProven) || errors.Is(err, audit.ErrForged) {
		return fmt.Errorf("%s: %w: %w", o.proof, err, errTampered)
	}
	if err != nil {
		return unusable(fmt.Errorf("%s: %w", o.proof, err))
	}
	fits := len(witnesses) == 0
	for _, w := range witnesses {
		fits = fits || w.Head.Cloud == head.Cloud && w.Head.Size == head.Size && w.Head.Root == head.Root
	}
	if !fits {
		return usagef("the proof is for a log of %d decisions, and no anchor is of that log: make it with \"audit prove --anchor\"", head.Size)
	}
	if done, err := a.form(nil, provenDecision{d.Number, d.Term, d.Time, d.Decision}); done {
		return err
	}
	fmt.Fprintln(a.out, oneLine(fmt.Sprintf("decision %d, %s: %s %s.%s %s, intent %s", d.Number, d.Time.UTC().Format(time.RFC3339), d.Actor, d.Kind, d.Verb, d.Outcome.Status, d.Intent)))
	a.talk("it is in the log of %d decisions that was signed %s by %s", head.Size, head.Signed.Format(time.RFC3339), p.Key)
	return nil
}

type provenDecision struct {
	Number uint64    `json:"number"`
	Term   uint64    `json:"term"`
	Time   time.Time `json:"time"`
	events.Decision
}

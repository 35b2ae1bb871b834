package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"cloudengine/commands/api/verifier"
	"cloudengine/commands/api/wire"
	"cloudengine/projections/verify"

	"github.com/spf13/cobra"
)

// verifyGrace is how much longer we wait than the server works.
const verifyGrace = 30 * time.Second

// verifyCommand holds the whole cloud against its log, on the server.
func (a *app) verifyCommand() *cobra.Command {
	var timeout time.Duration
	chosen := map[string]*bool{}
	cmd := &cobra.Command{
		Use: "verify", Short: "Hold log, database, documents, hosts, storage, networks and files against each other", Args: cobra.NoArgs,
		Long: `Read the whole log, from its start, and compare everything with what it says. Nothing is changed.

  log      sequences, numbers and terms are without gaps, each block names the one before by its digest; no VM ever had two live run
           grants, and each ended by a proof (I1); no host gave more than it has and no name was given twice (I4); silence was never
           taken for proof (I5); no intent was decided twice and every operation ends once (I6)
  rows     every row of every table of the database, the tables themselves, the checkpoint, and what is parked
  desired  every document that machines are told
  hosts    every host, asked live: domains, stamps, boot, state, memory, vCPUs, weight, and the documents that its agent obeys
  storage  every storage node, proxy and host on a fabric, asked live: disks, to whom each is exported, who has which array and under which
           epoch (I2), legs, records of volumes, and what each host maps for a volume and who uses it (I1, I3)
  networks every host of a fabric that carries networks, asked live: bridges, tunnels and who is at their other ends, forwarding entries, rules
           before each vif (I9), limits, addresses, routes, and whom the port of tunnels is open to
  files    the files of templates, and the sealed values of secrets
  power    with --power: every BMC, asked live

Findings are critical (a promise is broken), error, warning (someone has to decide) or note (as people decided), each with what to do next.
A difference counts only if it was the same in several looks. What moves while it is looked at, as under an operation, is told apart as
"settling". Who does not answer is told as "?". Exit code 0: nothing was found, and everything answered.`,
		Example: "  cloudengine verify\n  cloudengine verify --rows --desired\n  cloudengine verify --hosts --power -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout < time.Second || timeout > 10*time.Minute {
				return usagef("--timeout: want 1s to 10m")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout+verifyGrace)
			defer cancel()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			found, err := c.VerifyCloud(ctx, wire.CloudVerifyRequest{Sections: sectionsOf(chosen), TimeoutS: int(timeout / time.Second)}, a.verifyProgress())
			if err != nil {
				return err
			}
			return a.verified(found)
		},
	}
	f := cmd.Flags()
	for _, s := range verifier.Default {
		chosen[s] = f.Bool(s, false, "only this section, and others that are named")
	}
	chosen[verify.Power] = f.Bool(verify.Power, false, "ask every BMC too")
	f.DurationVar(&timeout, "timeout", 5*time.Minute, "how long the server may take, at most 10m; what is not done by then is told as \"?\"")
	return cmd
}

// sectionsOf: power is added to all others, or to those that are named.
func sectionsOf(chosen map[string]*bool) []string {
	var out []string
	for _, s := range verifier.Default {
		if *chosen[s] {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		out = slices.Clone(verifier.Default)
	}
	if *chosen[verify.Power] {
		out = append(out, verify.Power)
	}
	return out
}

// verifyProgress tells how far a verification is, whenever it is further.
func (a *app) verifyProgress() func(wire.VerifyProgress) {
	var last wire.VerifyProgress
	return func(p wire.VerifyProgress) {
		if p == last {
			return
		}
		last = p
		switch {
		case p.Of > 0:
			a.talk("%s: %d of %d %s", p.Section, p.Done, p.Of, p.Doing)
		case p.Done > 0:
			a.talk("%s: %s %d", p.Section, p.Doing, p.Done)
		default:
			a.talk("%s: %s", p.Section, p.Doing)
		}
	}
}

// verified prints what was found, and makes an error of it unless all is well.
func (a *app) verified(found wire.CloudVerifyAnswer) error {
	var err error
	switch a.output {
	case "json":
		err = a.json(found)
	case "yaml":
		err = a.yaml(found)
	case "name":
		for _, f := range found.Findings {
			fmt.Fprintln(a.out, f.Check, f.Kind+"/"+f.ID)
		}
	default:
		err = a.verifiedTable(found)
	}
	if err != nil {
		return err
	}
	unanswered, settling, wrong := 0, 0, 0
	for _, s := range found.Sections {
		unanswered, settling, wrong = unanswered+s.Unanswered, settling+s.Settling, wrong+s.Findings
	}
	if settling > 0 {
		a.talk("%d differences are settling: something is under way; verify again to see them settled", settling)
	}
	switch {
	case found.Clean:
		a.talk("everything that was asked is as the log says")
		return nil
	case unanswered > 0:
		return fmt.Errorf("%d findings; %d could not be asked, and are not known", wrong, unanswered)
	}
	return fmt.Errorf("%d findings", wrong)
}

var sectionColumns = []column{
	field("SECTION", "name"), field("CHECKED", "checked"), field("DECISION", "decision"), field("FINDINGS", "findings"), field("UNANSWERED", "unanswered"),
	field("SETTLING", "settling"), field("TOOK", "took"),
}

func (a *app) verifiedTable(found wire.CloudVerifyAnswer) error {
	fmt.Fprintf(a.out, "%d decisions in %d blocks, term %d, %d live runs, head %s\n", found.Decision, found.Blocks, found.Term, found.LiveRuns, found.Head)
	sections := make([]row, len(found.Sections))
	for i, s := range found.Sections {
		sections[i] = row{"name": s.Name, "checked": s.Checked, "decision": s.Decision, "findings": s.Findings, "unanswered": s.Unanswered, "settling": s.Settling,
			"took": (time.Duration(s.TookMS) * time.Millisecond).String()}
	}
	if err := table(a.out, sectionColumns, sections, withHeads); err != nil {
		return err
	}
	for i, f := range found.Findings {
		if i == 0 {
			fmt.Fprintln(a.out)
		}
		fmt.Fprint(a.out, oneLine(findingText(f)), "\n    → ", oneLine(f.Next), "\n")
	}
	if found.More > 0 {
		fmt.Fprintf(a.out, "and %d more findings\n", found.More)
	}
	return nil
}

// findingText is a finding on one line.
func findingText(f verify.Finding) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s  %s: %s", f.Severity, f.Object(), f.What)
	if f.Want != "" || f.Have != "" && f.Have != "?" {
		fmt.Fprintf(&b, "; want %s, have %s", f.Want, f.Have)
	}
	if f.Moving != "" {
		fmt.Fprintf(&b, " (%s)", f.Moving)
	}
	return b.String()
}

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// verifyCommand checks the whole log on the server.
func (a *app) verifyCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "verify", Short: "Read the whole log and check its chain and the platform's invariants", Args: cobra.NoArgs,
		Long: `Read the whole log, from its start, and check: sequences, decision numbers and terms are without gaps, each block names the one before
by its digest; no VM ever had two live run grants, and each ended by a proof (I1); no host gave more than it has and no name was given
twice (I4); silence was never taken for proof (I5); no intent was decided twice and every operation ends once (I6).`,
		Example: "  cloudengine verify\n  cloudengine verify -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			found, err := c.Verify(ctx)
			if err != nil {
				return err
			}
			switch a.output {
			case "json":
				err = a.json(found)
			case "yaml":
				err = a.yaml(found)
			default:
				_, err = fmt.Fprintf(a.out, "%d decisions in %d blocks, term %d, %d live runs, head %s\n",
					found.Decisions, found.Blocks, found.Term, found.LiveRuns, found.Head)
			}
			for _, b := range found.Broken {
				a.talk("BROKEN: %s", b)
			}
			if len(found.Broken) > 0 {
				return fmt.Errorf("the log breaks %d invariants", len(found.Broken))
			}
			a.talk("the chain is whole and all invariants hold")
			return err
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait for the server")
	return cmd
}

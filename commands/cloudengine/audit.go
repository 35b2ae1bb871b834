package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events/archive"
	"cloudengine/events/audit"

	"github.com/spf13/cobra"
)

// auditCommand is about the log's bytes: what it was, and whether it still is that.
func (a *app) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit", Short: "Prove that the log is what it was, to yourself and to strangers",
		Long: `Prove that the log is what it was. A signed head says what the log is now: the root of a Merkle tree over all its decisions. Whoever
keeps an anchor (a signed head and the hashes of all decisions) can later check a copy of the log against it, offline and without
trusting the server: "audit check" says that nothing before the anchor was changed, or names what was.`,
		Example: `  cloudengine audit anchor monday.anchor
  cloudengine audit export log.copy
  cloudengine audit check --log log.copy --anchor monday.anchor`,
	}
	cmd.AddCommand(a.auditHeadCommand(), a.auditKeyCommand(), a.auditAnchorCommand(), a.auditExportCommand(), a.auditProveCommand(),
		a.auditVerifyCommand(), a.auditCheckCommand())
	return cmd
}

// withClient runs f with a connection and a bound on the time.
func (a *app) withClient(cmd *cobra.Command, timeout time.Duration, f func(context.Context, *client.Client) error) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return f(ctx, c)
}

func timeoutFlag(cmd *cobra.Command, timeout *time.Duration) *cobra.Command {
	cmd.Flags().DurationVar(timeout, "timeout", 10*time.Minute, "how long to wait for the server")
	return cmd
}

func (a *app) auditHeadCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "head", Short: "Print a signed head of the log as it is now", Args: cobra.NoArgs,
		Long: `Print a signed head of the log as it is now (a C2SP signed note): cloud, number of decisions, root of the tree over them, last block,
term and times. Kept anywhere, it is a small anchor: with it and the public key a change can be found, though not named.`,
		Example: "  cloudengine audit head\n  cloudengine audit head > monday.head\n  cloudengine audit head -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd, timeout, func(ctx context.Context, c *client.Client) error {
				h, err := c.Head(ctx)
				if err != nil {
					return err
				}
				switch a.output {
				case "json":
					return a.json(h)
				case "yaml":
					return a.yaml(h)
				}
				a.talk("key: %s", h.Key)
				_, err = io.WriteString(a.out, h.Note)
				return err
			})
		},
	}
	return timeoutFlag(cmd, &timeout)
}

func (a *app) auditKeyCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "key", Short: "Print the public key that heads of the log are signed for", Args: cobra.NoArgs,
		Long: `Print the public key that belongs to the heads which this server signs. Publish it where who checks will find it without you. Each
server has a key of its own.`,
		Example: "  cloudengine audit key",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd, timeout, func(ctx context.Context, c *client.Client) error {
				h, err := c.Head(ctx)
				if err == nil {
					_, err = fmt.Fprintln(a.out, h.Key)
				}
				return err
			})
		},
	}
	return timeoutFlag(cmd, &timeout)
}

func (a *app) auditAnchorCommand() *cobra.Command {
	var timeout time.Duration
	var short bool
	cmd := &cobra.Command{
		Use: "anchor FILE", Short: "Write an anchor: what a stranger needs to check a copy of the log later", Args: cobra.ExactArgs(1),
		Long: `Write an anchor into a new file: a signed head of the log as it is now, the public key, and the hash of each decision (32 bytes each),
from which no decision can be read. Give it to who shall be able to check. --short leaves the hashes out: a change is found then, and
not named.`,
		Example: "  cloudengine audit anchor monday.anchor\n  cloudengine audit anchor --short monday.anchor",
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.withClient(cmd, timeout, func(ctx context.Context, c *client.Client) error {
				return a.writeAnchor(ctx, c, words[0], short)
			})
		},
	}
	cmd.Flags().BoolVar(&short, "short", false, "leave out the hashes of the decisions")
	return timeoutFlag(cmd, &timeout)
}

func (a *app) writeAnchor(ctx context.Context, c *client.Client, path string, short bool) error {
	h, err := c.Head(ctx)
	if err != nil {
		return err
	}
	anchor := audit.Anchor{Note: []byte(h.Note), Key: h.Key}
	if !short {
		if anchor.Leaves, err = c.Leaves(ctx, h.Size, a.howFar("decisions", h.Size)); err != nil {
			return err
		}
	}
	head, err := anchor.Verify()
	if err != nil {
		return fmt.Errorf("the server's answer does not hold: %w", err)
	}
	if err := newFile(path, func(w io.Writer) error { _, err := w.Write(anchor.Encode()); return err }); err != nil {
		return fmt.Errorf("write anchor: %w", err)
	}
	a.talk("anchor of %d decisions, signed %s, key %s", head.Size, head.Signed.Format(time.RFC3339), anchor.Key)
	return nil
}

func (a *app) auditExportCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "export FILE", Short: "Copy the log into a file", Args: cobra.ExactArgs(1),
		Long:    "Copy all blocks of the log, byte for byte, into a new file. It holds all that was ever decided: only administrators of the platform may.",
		Example: "  cloudengine audit export log.copy",
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.withClient(cmd, timeout, func(ctx context.Context, c *client.Client) error {
				var tail archive.Trailer
				err := newFile(words[0], func(w io.Writer) error {
					out, err := archive.NewWriter(w, time.Now())
					if err != nil {
						return err
					}
					var said func(uint64)
					err = c.Export(ctx, func(seq, last uint64, payload []byte) error {
						if said == nil {
							said = a.howFar("blocks", last)
						}
						said(seq)
						return out.Add(payload)
					})
					if err != nil {
						return err
					}
					tail, err = out.Close()
					return err
				})
				if err != nil {
					return fmt.Errorf("copy the log: %w", err)
				}
				a.talk("%d blocks, head %s", tail.Blocks, tail.Head)
				return nil
			})
		},
	}
	return timeoutFlag(cmd, &timeout)
}

func (a *app) auditProveCommand() *cobra.Command {
	var timeout time.Duration
	var anchorFile string
	cmd := &cobra.Command{
		Use: "prove NUMBER FILE", Short: "Write a proof that one decision is in the log", Args: cobra.ExactArgs(2),
		Long: `Write a proof that the decision with a number is in the log, into a new file: the decision, and the way from it to the root of a signed
head. It shows nothing else of the log. With --anchor the way leads to that anchor's head instead of one of now.`,
		Example: "  cloudengine audit prove 42 42.proof\n  cloudengine audit check --proof 42.proof",
		RunE: func(cmd *cobra.Command, words []string) error {
			number, err := strconv.ParseUint(words[0], 10, 64)
			if err != nil || number == 0 {
				return usagef("%q: want the number of a decision", words[0])
			}
			return a.withClient(cmd, timeout, func(ctx context.Context, c *client.Client) error {
				return a.writeProof(ctx, c, number, anchorFile, words[1])
			})
		},
	}
	cmd.Flags().StringVar(&anchorFile, "anchor", "", "prove it for the head of this anchor")
	return timeoutFlag(cmd, &timeout)
}

func (a *app) writeProof(ctx context.Context, c *client.Client, number uint64, anchorFile, path string) error {
	var anchor audit.Anchor
	var size uint64
	if anchorFile != "" {
		var err error
		if anchor, err = readAnchor(anchorFile); err != nil {
			return err
		}
		h, err := audit.Claimed(anchor.Note)
		if err != nil {
			return err
		}
		size = h.Size
	}
	p, err := c.Prove(ctx, number, size)
	if err != nil {
		return err
	}
	if size > 0 {
		p.Note, p.Key = string(anchor.Note), anchor.Key
	}
	if p.Key != "" {
		if _, _, err := p.Verify(); err != nil {
			return fmt.Errorf("the server's proof does not hold: %w", err)
		}
	}
	return newFile(path, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(p)
	})
}

// newFile makes a file that was not there, as a whole or not at all.
func newFile(path string, write func(io.Writer) error) error {
	if _, err := os.Lstat(path); err == nil {
		return usagef("%s is there already: name a new file", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	err = write(w)
	if err == nil {
		err = errors.Join(w.Flush(), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Link(f.Name(), path) // unlike a rename it replaces nothing
	}
	return errors.Join(err, os.Remove(f.Name()))
}

// howFar tells at most every two seconds how far something is.
func (a *app) howFar(what string, of uint64) func(uint64) {
	began := time.Now()
	next := began.Add(2 * time.Second)
	return func(n uint64) {
		now := time.Now()
		if now.Before(next) || n == 0 {
			return
		}
		next = now.Add(2 * time.Second)
		rate := float64(n) / now.Sub(began).Seconds()
		a.talk("%d of %d %s, %.0f/s, %s to go", n, of, what, rate, (time.Duration(float64(of-n)/rate) * time.Second).Round(time.Second))
	}
}

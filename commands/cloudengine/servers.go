package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"cloudengine/commands"
	"cloudengine/events"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// How often a server says again what it is: what is known already is not recorded.
const (
	announcing    = 30 * time.Second
	announceAgain = 200 * time.Millisecond // nobody decides yet
)

// announced waits a moment until a server that is alone has made itself known, so that what is asked of it first finds it in the log. One of
// several does not wait for the others.
func (s *server) announced(ctx context.Context) {
	said := make(chan struct{})
	s.parts.run("announcement", func(ctx context.Context) error { return s.announce(ctx, sync.OnceFunc(func() { close(said) })) })
	if s.opts.cluster != "" {
		return
	}
	select {
	case <-said:
	case <-ctx.Done():
	case <-time.After(announcing):
	}
}

// announce makes this server known to the log, and again if someone removes it. Whether it decides does not matter. It calls known after
// each answer.
func (s *server) announce(ctx context.Context, known func()) error {
	args, err := json.Marshal(commands.AnnounceServer{Server: s.opts.name, Release: version(), Level: events.Level})
	if err != nil {
		return fmt.Errorf("announce server: %w", err)
	}
	for said := ""; ; {
		asking, cancel := context.WithTimeout(ctx, announcing)
		answer, err := s.own.Submit(asking, commands.Command{
			Intent: events.IntentID(uuid.NewString()), Actor: commands.ActorServer, Kind: events.KindServer, Verb: "announce", Args: args,
		})
		cancel()
		wait := announcing
		if err != nil {
			wait = announceAgain
		} else {
			known()
		}
		if err == nil && answer.Outcome.Status == events.Refused && answer.Outcome.Message != said {
			said = answer.Outcome.Message
			s.log.Warn("this server could not make itself known", "why", said)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

var serverColumns = []column{field("NAME", "name"), field("RELEASE", "release_name"), field("LEVEL", "level"), field("SINCE", "known_at")}

// serverCommand is for the managing servers themselves.
func (a *app) serverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "server", Short: "The managing servers: what each runs",
		Long: `A server makes itself known when it starts: its release, and the highest level of the log that it can read and write. The level of the
log is raised ("log raise-level") when every server that is not removed knows the next.`,
	}
	list := a.listCommand(events.KindServer, "the managing servers", serverColumns)
	list.Example = "  cloudengine server list"
	show := a.showCommand(events.KindServer, "a managing server", append(serverColumns[:len(serverColumns):len(serverColumns)], field("CHANGED-BY", "changed_by")))
	show.Example = "  cloudengine server show s1"
	cmd.AddCommand(list, show, a.actOn(actOn{
		kind: events.KindServer, verb: "remove", short: "Forget a server that is gone for good",
		long:    "Forget a server that is gone for good, so that the level of the log does not wait for it. One that still runs makes itself known again.",
		example: "  cloudengine server remove s3 --reason \"its machine burnt\"",
	}))
	return cmd
}

package main

import (
	"context"
	"errors"

	"cloudengine/bootimage"
	"cloudengine/commands/api"
	"cloudengine/commands/api/verifier"
	"cloudengine/commands/api/wire"
	"cloudengine/commands/dispatch/plane"
	"cloudengine/events"
	"cloudengine/projections/desired"
	"cloudengine/projections/mysql"
)

// newVerifier makes what holds the cloud against its log. Its sources are asked when someone verifies.
func (s *server) newVerifier(p *plane.Plane) *verifier.Verifier {
	c := verifier.Config{
		Log: p.Journal,
		Database: func(ctx context.Context) (verifier.Database, error) {
			return mysql.OpenSnapshot(ctx, s.database.DB)
		},
		Documents: func(ctx context.Context) (map[string][]byte, error) { return desired.Published(ctx, p.JS) },
		Ask: func(ctx context.Context, m events.MachineID) (wire.InspectAnswer, error) {
			return api.AskHost(ctx, p.Conn, m, wire.InspectRequest{All: true})
		},
		AskStorage: func(ctx context.Context, m events.MachineID) (wire.InspectAnswer, error) {
			return api.AskHost(ctx, p.Conn, m, wire.InspectRequest{Storage: true})
		},
		AskNetworks: func(ctx context.Context, m events.MachineID) (wire.InspectAnswer, error) {
			return api.AskHost(ctx, p.Conn, m, wire.InspectRequest{Networks: true})
		},
		Blob: s.blobs.Check, Secret: s.secrets.Check,
		Power: func(ctx context.Context, m events.MachineID) (string, error) {
			worker := s.power.Load()
			if worker == nil {
				return "", errors.New("the power worker is still starting")
			}
			return worker.Status(ctx, m)
		},
	}
	if s.opts.netboot.on() {
		c.Image = func(version string) error {
			_, err := bootimage.Verify(s.path("netboot", "images", version))
			return err
		}
	}
	return verifier.New(c)
}

package main

import (
	"time"

	"cloudengine/commands/api"
	"cloudengine/commands/dispatch/plane"
	"cloudengine/events/audit/keep"
)

// auditKeyFile holds the key that signs heads of the log, in the data directory.
const auditKeyFile = "audit.key"

// openAudit opens what vouches for the log's bytes.
func (s *server) openAudit(p *plane.Plane) error {
	k, made, err := keep.Open(s.path("audit"), s.path(auditKeyFile), p.Journal, s.log.With("part", "audit"), time.Now)
	if err != nil {
		return err
	}
	if made {
		s.log.Info("made the key that signs heads of the log: \"cloudengine audit key\" prints its public half", "file", s.path(auditKeyFile))
	}
	s.audit = &api.Auditing{Keeper: k, Log: p.Journal}
	return nil
}

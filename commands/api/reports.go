package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"

	"cloudengine/commands"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"
)

func perSecond(l rate.Limit) string { return strconv.Itoa(int(l)) + " per second" }

// enrol takes a machine's first word after a boot. The token it brings is replaced by its digest before anyone else sees it.
func (s *Service) enrol(ctx context.Context, m *nats.Msg) any {
	machine, answer, ok := s.sender(m)
	if !ok {
		return answer
	}
	var e events.Enrol
	if err := strict(m.Data, &e); err != nil {
		return events.Answer{Outcome: refusal(events.CodeInvalid, "%v", err)}
	}
	switch {
	case e.Machine != "" && e.Machine != machine:
		return events.Answer{Outcome: refusal(events.CodeInvalid, "field \"machine\": %s reports for %s", machine, e.Machine)}
	case e.Token == "" || e.TokenSHA256 != "":
		return events.Answer{Outcome: refusal(events.CodeInvalid, "field \"token\": want the token of this boot, and no digest")}
	}
	e.Machine = machine
	e.TokenSHA256 = TokenDigest(e.Token)
	e.Token = ""
	// An agent that says the same again gets the first outcome; one that says something else (another key, since it was started
	// again; another inventory, since a cable was pulled) is decided anew.
	args, err := json.Marshal(e)
	if err != nil {
		return events.Answer{Outcome: refusal(events.CodeInvalid, "%v", err)}
	}
	return s.submitReport(ctx, events.ReportID(machine, e.Boot, 0, "enrol\x00"+events.Digest(args)), machine, "enrol", e)
}

// TokenDigest is how a boot token is known everywhere but in the machine: SHA-256 (hex) over its text.
func TokenDigest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// report takes what a machine sees.
func (s *Service) report(ctx context.Context, m *nats.Msg) any {
	machine, answer, ok := s.sender(m)
	if !ok {
		return answer
	}
	var r events.Report
	if err := strict(m.Data, &r); err != nil {
		return events.Answer{Outcome: refusal(events.CodeInvalid, "%v", err)}
	}
	if r.Machine != "" && r.Machine != machine {
		return events.Answer{Outcome: refusal(events.CodeInvalid, "field \"machine\": %s reports for %s", machine, r.Machine)}
	}
	r.Machine = machine
	return s.submitReport(ctx, events.ReportID(machine, r.Boot, r.Counter, "state"), machine, "report", r)
}

// reportStorage takes what a machine sees of storage.
func (s *Service) reportStorage(ctx context.Context, m *nats.Msg) any {
	machine, answer, ok := s.sender(m)
	if !ok {
		return answer
	}
	var r events.StorageReport
	if err := strict(m.Data, &r); err != nil {
		return events.Answer{Outcome: refusal(events.CodeInvalid, "%v", err)}
	}
	if r.Machine != "" && r.Machine != machine {
		return events.Answer{Outcome: refusal(events.CodeInvalid, "field \"machine\": %s reports for %s", machine, r.Machine)}
	}
	r.Machine = machine
	return s.submitReport(ctx, events.ReportID(machine, r.Boot, r.Counter, "storage"), machine, "report_storage", r)
}

func (s *Service) sender(m *nats.Msg) (events.MachineID, any, bool) {
	machine, _, err := events.SplitReport(m.Subject)
	if err != nil {
		return "", events.Answer{Outcome: refusal(events.CodeInvalid, "%v", err)}, false
	}
	if !s.limits.allow(commands.MachineActor(machine), s.cfg.MachineRate) {
		return "", busyAnswer(m.Subject, "more than "+perSecond(s.cfg.MachineRate)+" reports of this machine: ask again"), false
	}
	return machine, nil, true
}

func (s *Service) submitReport(ctx context.Context, id events.IntentID, machine events.MachineID, verb string, body any) any {
	args, err := json.Marshal(body)
	if err != nil {
		return events.Answer{ID: id, Outcome: refusal(events.CodeInvalid, "%v", err)}
	}
	return s.submit(ctx, commands.Command{
		Intent: id, Actor: commands.MachineActor(machine), Kind: events.KindMachine, Verb: verb, Args: args,
	}, false)
}

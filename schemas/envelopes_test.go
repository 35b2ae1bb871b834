package schemas_test

import (
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
)

const (
	vmID      = "0199c4f3-5e6f-7a71-8c8d-3e4f5a6b7c8d"
	accountID = "0199c4f0-1a2b-7c3d-8e4f-5a6b7c8d9e01"
	machineID = "0199c4f2-3c4d-7e5f-8a6b-1c2d3e4f5a6b"
	intentID  = "0199c4f4-6f70-7b82-9d9e-4f5a6b7c8d9e"
	bootID    = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
	publicKey = "UBYMLMP2UYKEDOJYJYDRJ3LY22CY5GIAEGDV6BAD6CZSCLG24ON2BEF6"
	digest    = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
)

// TestEnvelopesFitTheirSchemas encodes what the program sends and takes, full and as empty as it may be.
func TestEnvelopesFitTheirSchemas(t *testing.T) {
	c := compiler(t)
	now := time.Date(2026, 11, 22, 23, 9, 0, 5e8, time.UTC)
	refused := events.Outcome{Status: events.Refused, Code: events.CodeGuard, Guard: "end_proof", Message: "VM is Unknown"}
	var all []events.Event
	for _, name := range events.Names() {
		all = append(all, payload(t, name))
	}
	decision := events.Decision{
		Intent: intentID, Actor: "ann", Kind: events.KindVM, Verb: "start", Args: []byte(`{"vm":"` + vmID + `"}`), Expect: &events.Expect{Name: "web1"},
		Override: []string{"end_proof"}, Cause: "41", Correlation: "move", Reason: "the host is gone", Outcome: events.Outcome{Status: events.Accepted}, Events: all,
	}
	bare := events.Decision{Intent: intentID, Actor: "system:reaction", Kind: events.KindVM, Verb: "place", Outcome: refused}
	report := events.Report{
		Machine: machineID, Boot: bootID, Counter: 7, Complete: true, Capacity: &events.Capacity{AllocatableMiB: 1024, PCPUs: 4, XenVersion: "4.17"},
		Domains: []events.DomainReport{{UUID: vmID, DomID: 3, Name: "web1", Stamped: true, VM: vmID, Epoch: events.Epoch{Term: 1, Counter: 2}, Boot: bootID, State: events.DomainRunning, MemoryMiB: 64, VCPUs: 1}},
		Ended:   []events.DomainEnded{{VM: vmID, Epoch: events.Epoch{Term: 1, Counter: 1}, How: events.EndedShutdown}},
		Steps:   []events.StepFailed{{Object: events.Ref{Kind: events.KindVM, ID: vmID}, Step: "create domain", Message: "no memory", Retryable: true}, {}},
	}
	domain := desired.Domain{VM: vmID, Name: "web1", Account: accountID, Want: desired.Running, Type: events.TypePV, VCPUs: 1, MemoryMiB: 64, Kernel: events.Blob{SHA256: digest, Size: 1}}
	document := desired.Document{Version: 1, Machine: machineID, Boot: bootID, Kind: desired.KindDomain, ID: vmID, Body: mustJSON(t, domain)}
	orphan := desired.Orphan{UUID: vmID, Want: desired.Absent}
	ofOrphan := desired.Document{Version: 1, Machine: machineID, Boot: bootID, Kind: desired.KindOrphan, ID: vmID, Body: mustJSON(t, orphan)}

	for name, values := range map[string][]any{
		"request": {events.Request{ID: intentID, Args: []byte(`{}`)}, events.Request{
			ID: intentID, Args: []byte(`{"vm":"x"}`), Expect: &events.Expect{Name: "web1"}, Override: []string{"end_proof"}, Reason: "why", DryRun: true}},
		"answer": {events.Answer{ID: intentID, Number: 42, Time: now, Outcome: events.Outcome{Status: events.Accepted}},
			events.Answer{ID: intentID, Outcome: refused, Events: all}},
		"read_request":     {events.ReadRequest{}, events.ReadRequest{ID: "web1", Filter: map[string]string{"host": "host1"}, Limit: 10, WaitFor: 42}},
		"read_answer":      {events.ReadAnswer{}, events.ReadAnswer{Applied: 42, Error: &refused}},
		"block":            {events.Block{Format: events.Format, Term: 1, First: 1, Time: now, Decisions: []events.Decision{decision, bare}}},
		"decision":         {decision, bare},
		"feed_message":     {events.FeedMessage{Number: 1, Time: now.Format(time.RFC3339Nano), Intent: intentID, Actor: "ann", Event: all[0]}},
		"enrol":            {events.Enrol{Machine: machineID, Token: "t", Boot: bootID, Key: publicKey, Image: "1", Inventory: events.Inventory{NICs: []events.NIC{{Name: "eth0"}}}}},
		"report":           {report, events.Report{Machine: machineID, Boot: bootID}},
		"desired_document": {document, ofOrphan},
		"desired_domain":   {domain, desired.Domain{VM: vmID, Account: accountID, Want: desired.Absent}},
		"desired_orphan":   {orphan},
	} {
		s := mustCompile(t, c, "envelopes/"+name)
		for _, v := range values {
			if err := s.Validate(mustTree(t, mustJSON(t, v))); err != nil {
				t.Errorf("%s: %v\n%s", name, err, mustJSON(t, v))
			}
		}
	}
}

// TestEnvelopesRefuse what the endpoints and readers refuse too.
func TestEnvelopesRefuse(t *testing.T) {
	c := compiler(t)
	for name, x := range map[string]struct{ envelope, body string }{
		"request-with-unknown-field": {"request", `{"id":"` + intentID + `","args":{},"force":true}`},
		"request-without-id":         {"request", `{"args":{}}`},
		"request-with-other-guard":   {"request", `{"id":"` + intentID + `","args":{},"override":["all"],"reason":"x"}`},
		"id-in-capitals":             {"request", `{"id":"0199C4F4-6F70-7B82-9D9E-4F5A6B7C8D9E","args":{}}`},
		"report-with-unknown-field":  {"report", `{"machine":"` + machineID + `","boot":"b","counter":1,"complete":true,"mood":"good"}`},
		"counter-below-zero":         {"report", `{"machine":"` + machineID + `","boot":"b","counter":-1,"complete":true}`},
		"read-too-many":              {"read_request", `{"limit":1001}`},
		"block-without-decisions":    {"block", `{"format":1,"term":1,"first":1,"time":"2026-11-22T23:09:00Z","prev":""}`},
		"document-of-no-domain":      {"desired_document", `{"version":1,"machine":"` + machineID + `","boot":"b","kind":"domain","id":"v","generation":{"term":1,"number":1},"body":{}}`},
	} {
		t.Run(name, func(t *testing.T) {
			if mustCompile(t, c, "envelopes/"+x.envelope).Validate(mustTree(t, []byte(x.body))) == nil {
				t.Errorf("%s takes %s", x.envelope, x.body)
			}
		})
	}
}

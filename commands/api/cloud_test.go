package api

import (
	"context"
	"strings"
	"testing"
	"time"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections/verify"

	"github.com/nats-io/nats.go"
)

// slowVerifier finds one thing once it is let go.
type slowVerifier struct {
	asked [][]string
	let   chan struct{}
}

func (v *slowVerifier) Run(ctx context.Context, sections []string) (wire.CloudVerifyAnswer, error) {
	v.asked = append(v.asked, sections)
	select {
	case <-v.let:
		return wire.CloudVerifyAnswer{Decision: 7, Findings: []verify.Finding{{Check: "x", What: strings.Repeat("y", 10)}}}, nil
	case <-ctx.Done():
		return wire.CloudVerifyAnswer{}, ctx.Err()
	}
}

func (v *slowVerifier) Progress() wire.VerifyProgress {
	return wire.VerifyProgress{Running: true, Section: "rows"}
}

// A verification that takes long is waited for by its id, and only one runs at a time.
func TestVerificationIsWaitedFor(t *testing.T) {
	s, _ := service(t)
	v := &slowVerifier{let: make(chan struct{})}
	s.cfg.Verifier = v
	base, cancel := context.WithCancel(t.Context())
	defer s.running.Wait()
	defer cancel()
	ask := func(wait time.Duration, body string) wire.CloudVerifyAnswer {
		return s.verifyCloud(base, wait)(t.Context(), &nats.Msg{Subject: "read.admin.cloud.verify", Data: []byte(body)}).(wire.CloudVerifyAnswer)
	}
	first := ask(time.Millisecond, `{"sections":["rows"]}`)
	if !first.Running || first.Run == "" || first.Error != nil {
		t.Fatalf("got %+v", first)
	}
	if a := ask(time.Millisecond, `{}`); a.Error == nil || a.Error.Code != events.CodeBusy {
		t.Errorf("a second one: %+v", a)
	}
	if a := ask(time.Millisecond, `{"run":"another"}`); a.Error == nil || a.Error.Code != events.CodeNotFound {
		t.Errorf("an unknown one: %+v", a)
	}
	if a := ask(time.Millisecond, `{"run":"`+first.Run+`"}`); !a.Running || a.Run != first.Run {
		t.Errorf("it still runs: %+v", a)
	}
	close(v.let)
	for range 2 { // whoever asks again gets the same
		if a := ask(10*time.Second, `{"run":"`+first.Run+`"}`); a.Running || a.Decision != 7 || len(a.Findings) != 1 {
			t.Errorf("at its end: %+v", a)
		}
	}
	if len(v.asked) != 1 || v.asked[0][0] != "rows" {
		t.Errorf("it was asked for %v", v.asked)
	}
}

func TestVerificationIsForOperators(t *testing.T) {
	s, _ := service(t)
	s.cfg.Verifier = &slowVerifier{}
	for _, who := range []string{"ann", "guest", "nobody"} { // of an account, a reader, and none
		a := s.verifyCloud(t.Context(), time.Second)(t.Context(), &nats.Msg{Subject: "read." + who + ".cloud.verify", Data: []byte(`{}`)}).(wire.CloudVerifyAnswer)
		if a.Error == nil || a.Error.Code != events.CodeForbidden && a.Error.Code != events.CodeUnauthorized {
			t.Errorf("%s: %+v", who, a)
		}
		if p := s.verifyProgress(t.Context(), &nats.Msg{Subject: "read." + who + ".cloud.progress"}).(wire.VerifyProgress); p.Error == nil || p.Running {
			t.Errorf("%s: %+v", who, p)
		}
	}
	for _, body := range []string{`{"timeout_s":601}`, `{"timeout_s":-1}`, `{"sections":["wings"]}`, `{"wings":1}`, `[]`} {
		a := s.verifyCloud(t.Context(), time.Second)(t.Context(), &nats.Msg{Subject: "read.admin.cloud.verify", Data: []byte(body)}).(wire.CloudVerifyAnswer)
		if a.Error == nil || a.Error.Code != events.CodeInvalid {
			t.Errorf("%s: %+v", body, a)
		}
	}
}

func TestFindingsFitIntoOneMessage(t *testing.T) {
	a := wire.CloudVerifyAnswer{More: 1}
	for range 100 {
		a.Findings = append(a.Findings, verify.Finding{What: strings.Repeat("x", 20_000)})
	}
	if got := fitFindings(a); len(got.Findings) < 40 || len(got.Findings)+got.More != 101 {
		t.Errorf("%d findings and %d more", len(got.Findings), got.More)
	}
}

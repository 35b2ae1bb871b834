package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"cloudengine/commands"
	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

// recorder is a decider that accepts everything and keeps what it was given.
type recorder struct {
	got []commands.Command
	err error
}

func (r *recorder) Submit(_ context.Context, c commands.Command, _ bool) (events.Answer, error) {
	r.got = append(r.got, c)
	return events.Answer{Number: uint64(len(r.got)), Outcome: events.Outcome{Status: events.Accepted}}, r.err
}

type people map[string]User

func (p people) User(name string) (User, bool) { u, ok := p[name]; return u, ok }

// rows is a reader with what it knows by id; an account sees its own.
type rows map[string]struct{ account, json string }

func (r rows) Get(_ context.Context, u User, _ events.Kind, q events.ReadRequest) events.ReadAnswer {
	v, ok := r[q.ID]
	if !ok || u.Account != "" && string(u.Account) != v.account {
		return readError(refusal(events.CodeNotFound, "there is no %s", q.ID))
	}
	return events.ReadAnswer{Applied: 1, Items: []json.RawMessage{json.RawMessage(v.json)}}
}

func (r rows) List(context.Context, User, events.Kind, events.ReadRequest) events.ReadAnswer {
	return events.ReadAnswer{}
}

func service(t *testing.T) (*Service, *recorder) {
	t.Helper()
	blobs, err := OpenBlobs(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	secrets, err := OpenSecrets(dir, dir+"/master.key")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	return New(Config{
		Decider: r, Blobs: blobs, Secrets: secrets, Reader: rows{"theirs": {"other", `{"id":"theirs","host":"h1"}`}, "stopped": {"acc", `{"id":"stopped","host":null}`}}, Log: slog.New(slog.DiscardHandler),
		Users: people{
			"admin": {"admin", events.RoleAdmin, ""},
			"ann":   {"ann", events.RoleOperate, "acc"},
			"guest": {"guest", events.RoleRead, ""},
		},
	}), r
}

const anID = "0190b6a4-0000-7000-8000-000000000001"

func TestIntentsOfBadForm(t *testing.T) {
	deep := strings.Repeat(`[`, 20000)
	for name, c := range map[string]struct{ subject, body, code, say string }{
		"empty":         {"do.ann.vm.create", ``, events.CodeInvalid, "empty"},
		"no_json":       {"do.ann.vm.create", `{"id`, events.CodeInvalid, "JSON"},
		"array":         {"do.ann.vm.create", `[1]`, events.CodeInvalid, "want an object"},
		"unknown_field": {"do.ann.vm.create", `{"id":"` + anID + `","arguments":{}}`, events.CodeInvalid, `unknown field "arguments"`},
		"wrong_type":    {"do.ann.vm.create", `{"id":7}`, events.CodeInvalid, `field "id": want`},
		"two_objects":   {"do.ann.vm.create", `{"id":"` + anID + `"}{}`, events.CodeInvalid, "behind the end"},
		"bad_utf8":      {"do.ann.vm.create", "{\"reason\":\"\xff\"}", events.CodeInvalid, "UTF-8"},
		"large":         {"do.ann.vm.create", `{"reason":"` + strings.Repeat("x", events.MaxRequest) + `"}`, events.CodeInvalid, "at most 262144"},
		"deep":          {"do.ann.vm.create", `{"id":"` + anID + `","args":` + deep + `}`, events.CodeInvalid, "JSON"},
		"no_uuid":       {"do.ann.vm.create", `{"id":"x"}`, events.CodeInvalid, `field "id": want a UUID`},
		"upper_case":    {"do.ann.vm.create", `{"id":"` + strings.ToUpper(anID[:8]) + `-B000-7000-8000-00000000000A"}`, events.CodeInvalid, `field "id": want a UUID`},
		"system_actor":  {"do.system:power.machine.report_power", `{"id":"` + anID + `"}`, events.CodeUnauthorized, "no name of a user"},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := service(t)
			a := s.do(t.Context(), &nats.Msg{Subject: c.subject, Data: []byte(c.body)}).(events.Answer)
			if a.Outcome.Code != c.code || !strings.Contains(a.Outcome.Message, c.say) {
				t.Errorf("got %+v; want code %s and a message with %q", a.Outcome, c.code, c.say)
			}
			if len(r.got) > 0 {
				t.Errorf("it was submitted: %+v", r.got)
			}
		})
	}
}

func TestIntentGoesToTheDecider(t *testing.T) {
	s, r := service(t)
	body := `{"id":"` + anID + `","args":{"name":"a"},"expect":{"name":"b"},"override":["g"],"reason":"why","cause":"c","correlation":"d"}`
	a := s.do(t.Context(), &nats.Msg{Subject: "do.ann.vm.create", Data: []byte(body)}).(events.Answer)
	if a.Number != 1 || a.ID != anID || len(r.got) != 1 {
		t.Fatalf("got %+v, submitted %d", a, len(r.got))
	}
	c := r.got[0]
	if c.Actor != "ann" || c.Kind != "vm" || c.Verb != "create" || string(c.Args) != `{"name":"a"}` || c.Expect.Name != "b" ||
		c.Override[0] != "g" || c.Reason != "why" || c.Cause != "c" || c.Correlation != "d" {
		t.Errorf("submitted %+v", c)
	}
	r.err = context.DeadlineExceeded
	a = s.do(t.Context(), &nats.Msg{Subject: "do.ann.vm.create", Data: []byte(body)}).(events.Answer)
	if a.Outcome.Code != events.CodeUnavailable || a.Number != 0 {
		t.Errorf("a decider that fails: got %+v", a)
	}
}

func TestRateLimitAnswersBusy(t *testing.T) {
	s, r := service(t)
	s.cfg.ActorRate = 2
	busy := 0
	for range 20 {
		a := s.do(t.Context(), &nats.Msg{Subject: "do.ann.vm.create", Data: []byte(`{"id":"` + anID + `"}`)}).(events.Answer)
		if a.Outcome.Code == events.CodeBusy {
			busy++
		}
	}
	if busy == 0 || busy+len(r.got) != 20 {
		t.Errorf("%d of 20 were told busy, %d submitted", busy, len(r.got))
	}
	other := s.do(t.Context(), &nats.Msg{Subject: "do.admin.vm.create", Data: []byte(`{"id":"` + anID + `"}`)}).(events.Answer)
	if other.Outcome.Status != events.Accepted {
		t.Errorf("another user is limited too: %+v", other)
	}
}

func TestEnrolHidesTheToken(t *testing.T) {
	s, r := service(t)
	enrol := func(body string) events.Answer {
		return s.enrol(t.Context(), &nats.Msg{Subject: "rep.m1.enrol", Data: []byte(body)}).(events.Answer)
	}
	if a := enrol(`{"boot":"b","token":"sesame","key":"K","image":"i","inventory":{"cpus":1,"memory_mib":1}}`); a.Outcome.Status != events.Accepted {
		t.Fatalf("got %+v", a)
	}
	c := r.got[0]
	if strings.Contains(string(c.Args), "sesame") || !strings.Contains(string(c.Args), TokenDigest("sesame")) {
		t.Errorf("arguments: %s", c.Args)
	}
	if c.Actor != "machine:m1" || c.Verb != "enrol" {
		t.Errorf("submitted %+v", c)
	}
	enrol(`{"boot":"b","token":"sesame","key":"K2","image":"i","inventory":{"cpus":1,"memory_mib":1}}`)
	if r.got[1].Intent == c.Intent {
		t.Error("another key of the same boot has the same id")
	}
	for _, bad := range []string{`{"boot":"b"}`, `{"token":"a","token_sha256":"b"}`, `{"machine":"m2","token":"a"}`} {
		if a := enrol(bad); a.Outcome.Code != events.CodeInvalid {
			t.Errorf("%s: got %+v", bad, a.Outcome)
		}
	}
}

func TestReportIsOfItsSender(t *testing.T) {
	s, r := service(t)
	report := func(body string) events.Answer {
		return s.report(t.Context(), &nats.Msg{Subject: "rep.m1.state", Data: []byte(body)}).(events.Answer)
	}
	if a := report(`{"machine":"m2","boot":"b","counter":1,"complete":true}`); a.Outcome.Code != events.CodeInvalid || len(r.got) > 0 {
		t.Errorf("a report for another machine: got %+v", a)
	}
	report(`{"boot":"b","counter":1,"complete":true}`)
	report(`{"boot":"b","counter":1,"complete":true}`)
	report(`{"boot":"b","counter":2,"complete":true}`)
	if r.got[0].Intent != r.got[1].Intent || r.got[1].Intent == r.got[2].Intent {
		t.Errorf("ids: %s %s %s", r.got[0].Intent, r.got[1].Intent, r.got[2].Intent)
	}
	if !strings.Contains(string(r.got[0].Args), `"machine":"m1"`) {
		t.Errorf("arguments: %s", r.got[0].Args)
	}
}

func TestSecretsNeedTheRoleAndStayOutOfTheLog(t *testing.T) {
	s, r := service(t)
	body, err := json.Marshal(wire.SecretRequest{ID: anID, Name: "bmc", Value: []byte("opensesame")})
	if err != nil {
		t.Fatal(err)
	}
	a := s.putSecret(t.Context(), &nats.Msg{Subject: "put.ann.secret", Data: body}).(events.Answer)
	if a.Outcome.Code != events.CodeForbidden || len(r.got) > 0 {
		t.Fatalf("an operator: got %+v", a)
	}
	a = s.putSecret(t.Context(), &nats.Msg{Subject: "put.admin.secret", Data: body}).(events.Answer)
	if a.Outcome.Status != events.Accepted || strings.Contains(string(r.got[0].Args), "opensesame") {
		t.Fatalf("got %+v, submitted %s", a, r.got[0].Args)
	}
	if v, err := s.cfg.Secrets.Value("bmc"); err != nil || string(v) != "opensesame" {
		t.Errorf("value %q, %v", v, err)
	}
}

func TestConsoleOfWhatIsNotThere(t *testing.T) {
	for body, code := range map[string]string{
		`{"vm":"x"}`:                    events.CodeNotFound,
		`{"vm":"theirs"}`:               events.CodeNotFound,
		`{"vm":"stopped"}`:              events.CodeConflict,
		`{"vm":"stopped","bytes":-1}`:   events.CodeInvalid,
		`{"vm":"stopped","bytes":1e99}`: events.CodeInvalid,
		`{"name":"stopped"}`:            events.CodeInvalid,
	} {
		s, _ := service(t)
		a := s.console(t.Context(), &nats.Msg{Subject: "console.ann.vm", Data: []byte(body)}).(wire.ConsoleAnswer)
		if a.Error == nil || a.Error.Code != code {
			t.Errorf("%s: got %+v, want %s", body, a, code)
		}
	}
}

func FuzzStrict(f *testing.F) {
	f.Add([]byte(`{"id":"x","args":{}}`))
	f.Add([]byte("{\"reason\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		var r events.Request
		if err := strict(body, &r); err == nil && !json.Valid(body) {
			t.Errorf("taken, but no JSON: %q", body)
		}
	})
}

func TestUnavailableSaysWhy(t *testing.T) {
	if o := unavailable(errors.New("not the leader")); o.Code != events.CodeUnavailable || !strings.Contains(o.Message, "not the leader") {
		t.Errorf("got %+v", o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	if o := unavailable(ctx.Err()); o.Code != events.CodeUnavailable {
		t.Errorf("got %+v", o)
	}
}

package broker

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// FuzzHarmless asks for consumers with anything: what is passed on delivers to nobody by itself, is not kept, and reads FEED alone.
func FuzzHarmless(f *testing.F) {
	for _, s := range []string{`{}`, `{"deliver_subject":"events"}`, `{"durable_name":"x"}`, `{"filter_subjects":["feed.>","events"]}`, `{"filter_subject":"feed.vm.*.x","ack_policy":"none"}`,
		`{"ack_policy":"none","num_replicas":5,"inactive_threshold":-1,"backoff":[1],"metadata":{"a":"b"},"priority_groups":["x"],"rate_limit_bps":1}`} {
		f.Add("x_1", s)
	}
	f.Fuzz(func(t *testing.T, name, body string) {
		var c jetstream.ConsumerConfig
		if json.Unmarshal([]byte(body), &c) != nil {
			return
		}
		out, err := harmless(name, c)
		if err != nil {
			return
		}
		if out.DeliverSubject != "" || out.DeliverGroup != "" || out.Durable != "" || out.AckPolicy != jetstream.AckNonePolicy || out.Replicas != 1 || !out.MemoryStorage ||
			out.InactiveThreshold <= 0 || out.InactiveThreshold > feedIdle || len(out.PriorityGroups) > 0 || len(out.Metadata) > 0 {
			t.Fatalf("passed on: %+v", out)
		}
		if !strings.HasPrefix(out.Name, feedName) || strings.ContainsAny(out.Name, ".*> \r\n") {
			t.Fatalf("name %q", out.Name)
		}
		for _, s := range append(out.FilterSubjects, out.FilterSubject) {
			if s != "" && (!strings.HasPrefix(s, "feed.") || strings.ContainsAny(s, " \t\r\n")) {
				t.Fatalf("filter %q", s)
			}
		}
	})
}

package events

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func TestTheVocabularyIsSound(t *testing.T) {
	if err := Validate(); err != nil {
		t.Fatal(err)
	}
}

func sample() *Block {
	return &Block{
		Format: Format, Term: 1, First: 7, Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Prev: Digest([]byte("x")),
		Decisions: []Decision{{
			Intent: "a", Actor: "admin", Kind: KindVM, Verb: "start", Args: json.RawMessage(`{"vm":"<v>"}`), Outcome: Outcome{Status: Accepted},
			Events: []Event{
				New(KindVM, "v", 3, VMRunGranted{Host: "h", Boot: "b", Epoch: Epoch{1, 2}, MemoryMiB: 128}),
				New(KindOperation, "a", 1, OperationStarted{Object: Ref{KindVM, "v"}, Verb: "start"}),
			},
		}},
	}
}

func TestBlockSurvivesEncoding(t *testing.T) {
	b := sample()
	raw, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeBlock(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(b, back) {
		t.Fatalf("got %+v\nwant %+v", back, b)
	}
	if r := back.Recorded(); r[0].Number != 7 || back.Last() != 7 {
		t.Fatalf("numbers: %d, last %d", r[0].Number, back.Last())
	}
}

func TestUnknownEventKeepsItsBytes(t *testing.T) {
	raw := `{"aggregate":"vm/v","version":1,"type":"vm.dreamt.v3","data":{"of":"sheep"}}`
	var e Event
	if err := json.Unmarshal([]byte(raw), &e); err != nil {
		t.Fatal(err)
	}
	if _, ok := e.Data.(Unknown); !ok {
		t.Fatalf("got %T", e.Data)
	}
	back, err := json.Marshal(e)
	if err != nil || string(back) != raw {
		t.Fatalf("got %s, %v", back, err)
	}
}

func TestEpochs(t *testing.T) {
	for _, c := range []struct {
		a, b Epoch
		want int
	}{{Epoch{1, 5}, Epoch{2, 1}, -1}, {Epoch{2, 1}, Epoch{2, 1}, 0}, {Epoch{2, 2}, Epoch{2, 1}, 1}} {
		if got := c.a.Compare(c.b); got != c.want {
			t.Errorf("%v and %v: got %d, want %d", c.a, c.b, got, c.want)
		}
		if e, err := ParseEpoch(c.a.String()); err != nil || e != c.a {
			t.Errorf("parse %v: %v %v", c.a, e, err)
		}
	}
	for _, bad := range []string{"", "1", "1.2.3", "a.b", "-1.2", "01.2", "1.2 "} {
		if _, err := ParseEpoch(bad); err == nil {
			t.Errorf("%q was read as an epoch", bad)
		}
	}
}

func FuzzDecodeBlock(f *testing.F) {
	raw, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"format":1,"term":1,"first":1,"decisions":[{"events":[{"aggregate":"x","data":null}]}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := DecodeBlock(in)
		if err != nil {
			return
		}
		out, err := b.Encode()
		if err != nil {
			t.Fatalf("decoded and cannot be encoded: %v", err)
		}
		if _, err := DecodeBlock(out); err != nil {
			t.Fatalf("encoded and cannot be decoded: %v", err)
		}
	})
}

func FuzzParseEpoch(f *testing.F) {
	f.Add("1.2")
	f.Fuzz(func(t *testing.T, s string) {
		if e, err := ParseEpoch(s); err == nil && e.String() != s {
			t.Fatalf("%q was read as %v", s, e)
		}
	})
}

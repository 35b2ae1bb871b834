package reserve_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cloudengine/events"
	"cloudengine/workers/reserve"
	"cloudengine/workers/workertest/prunit"
)

func TestBytes(t *testing.T) {
	o := reserve.Out{Action: reserve.PreemptAndAbort, Type: reserve.ExclusiveAccess, Key: 0x0102030405060708, Other: 0x1112131415161718}
	cdb, list := o.Encode()
	if hex.EncodeToString(cdb) != "5f050300000000001800" || hex.EncodeToString(list) != "01020304050607081112131415161718"+"0000000000000000" {
		t.Errorf("%x %x", cdb, list)
	}
	if got := hex.EncodeToString(reserve.ReadKeys(0x1234)); got != "5e000000000000123400" {
		t.Error(got)
	}
	if got := hex.EncodeToString(reserve.ReadReservation(1 << 20)); got != "5e010000000000ffff00" {
		t.Error(got)
	}
}

func answer(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAnswers(t *testing.T) {
	g, keys, err := reserve.Keys(answer(t, "00000007"+"00000010"+"0000000000000001"+"00000000000000ff"))
	if err != nil || g != 7 || !slices.Equal(keys, []reserve.Key{1, 255}) {
		t.Error(g, keys, err)
	}
	_, holder, kind, err := reserve.Holder(answer(t, "00000007"+"00000010"+"00000000000000ff"+"00000000"+"00"+"03"+"0000"))
	if err != nil || holder != 255 || kind != reserve.ExclusiveAccess {
		t.Error(holder, kind, err)
	}
	if _, holder, _, err = reserve.Holder(answer(t, "0000000700000000")); err != nil || holder != 0 {
		t.Error(holder, err)
	}
	for _, short := range []string{"", "00000007000000", "0000000700000010" + "0000000000000001"} {
		if _, _, err := reserve.Keys(answer(t, short)); !errors.Is(err, reserve.ErrShort) {
			t.Errorf("%q: %v", short, err)
		}
	}
	for _, wrong := range []string{"0000000700000007" + "00000000000000", "0000000700000008" + "0000000000000001"} {
		if _, _, _, err := reserve.Holder(answer(t, wrong)); err == nil {
			t.Errorf("%q is taken for a reservation", wrong)
		}
	}
	if _, _, err := reserve.Keys(answer(t, "0000000700000007"+"00000000000000")); err == nil {
		t.Error("seven bytes are taken for keys")
	}
	if _, _, _, err := reserve.Holder(answer(t, "0000000700000010"+"00000000000000ff"+"00000000"+"00"+"13"+"0000")); err == nil {
		t.Error("a part of a unit is taken for the unit")
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x07\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x01"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _, _ = reserve.Keys(b)
		_, _, _, _ = reserve.Holder(b)
	})
}

func key(t fataler, array events.ArrayID, counter uint64, boot string) reserve.Key {
	t.Helper()
	k, err := reserve.KeyOf(array, events.Epoch{Term: 1, Counter: counter}, boot)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return k
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func TestKeys(t *testing.T) {
	k := key(t, "a", 2, "b1")
	if k == key(t, "a", 3, "b1") || k == key(t, "b", 2, "b1") || k == key(t, "a", 2, "b2") || k != key(t, "a", 2, "b1") {
		t.Error(k)
	}
	if !k.Ours() || !k.Of("a") || k.Of("b") || !k.By("b1") || k.By("b2") || k.Epoch() != (events.Epoch{Term: 1, Counter: 2}) || reserve.Key(77).Ours() {
		t.Error(k)
	}
	if fmt.Sprintf("%x", uint64(k)) != "ce13d401000029f6" { // keys outlive agents
		t.Errorf("the layout has changed: %x", uint64(k))
	}
	for _, e := range []events.Epoch{{}, {Term: 1 << 10, Counter: 1}, {Term: 1, Counter: 1 << 20}} {
		if _, err := reserve.KeyOf("a", e, "b"); !errors.Is(err, reserve.ErrEpoch) {
			t.Errorf("%s: %v", e, err)
		}
	}
	last, err := reserve.KeyOf("a", events.Epoch{Term: 1<<10 - 1, Counter: 1<<20 - 1}, "b")
	if err != nil || last.Epoch() != (events.Epoch{Term: 1<<10 - 1, Counter: 1<<20 - 1}) || !last.Of("a") || !last.By("b") {
		t.Error(last, err)
	}
}

// TestTakes: whatever owners before it have left on a unit, also this one in another session, it is held by one initiator alone in the end; and
// where a later owner, or somebody else, has registered, nothing is changed.
func TestTakes(t *testing.T) {
	taken, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		own := key(rt, "a", 5, "me")
		before := []reserve.Key{key(rt, "a", 4, "p2"), key(rt, "a", 1, "me"), key(rt, "other", 9, "p2"), own}
		never := []reserve.Key{key(rt, "a", 6, "p2"), key(rt, "a", 5, "p2"), 77}
		u := &prunit.Unit{Keys: map[string]reserve.Key{}}
		for _, n := range []string{"me", "older session", "p2", "p3"} {
			switch i := rapid.IntRange(0, 8).Draw(rt, "key"); {
			case i < 4:
				u.Keys[n] = before[i]
			case i == 4 && n != "me":
				u.Keys[n] = rapid.SampledFrom(never).Draw(rt, "later")
			}
		}
		if n := rapid.SampledFrom([]string{"", "me", "older session", "p2", "p3"}).Draw(rt, "holder"); u.Keys[n] != 0 {
			u.Holder, u.Type = n, rapid.SampledFrom([]reserve.Type{reserve.WriteExclusive, reserve.ExclusiveAccess}).Draw(rt, "type")
		}
		was, judged := u.Seen(), reserve.Judge(own, u.Seen())
		err := reserve.Take(rt.Context(), u.At("me"), own)
		if judged != nil {
			if refused++; !errors.Is(err, reserve.ErrNewer) && !errors.Is(err, reserve.ErrForeign) || !reflect.DeepEqual(u.Seen(), was) {
				rt.Fatalf("%v: was %+v, is %+v", err, was, u.Seen())
			}
			return
		}
		if taken++; err != nil || len(u.Keys) != 1 || u.Keys["me"] != own || u.Holder != "me" || u.Type != reserve.ExclusiveAccess || !u.Seen().Held(own) {
			rt.Fatalf("%v, in the end: %+v", err, u)
		}
	})
	if taken == 0 || refused == 0 {
		t.Errorf("%d taken, %d refused", taken, refused)
	}
}

// racing lets another owner act between any two commands.
type racing struct {
	prunit.At
	between func()
}

func (r racing) Reserve(ctx context.Context, o reserve.Out) error {
	r.between()
	return r.At.Reserve(ctx, o)
}

// TestRace: of two owners that take a unit at the same time the later one has it, and the earlier one is told, or has done nothing that lasts.
func TestRace(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		low, high := key(rt, "a", 5, "p1"), key(rt, "a", 6, "p2")
		u := &prunit.Unit{}
		at := rapid.IntRange(0, 5).Draw(rt, "command")
		err := reserve.Take(rt.Context(), racing{u.At("p1"), func() {
			if at--; at == -1 {
				if err := reserve.Take(rt.Context(), u.At("p2"), high); err != nil {
					rt.Fatalf("the later owner: %v", err)
				}
			}
		}}, low)
		if at < 0 && (err == nil || u.Holder != "p2" || u.May("p1") || u.Keys["p2"] != high) {
			rt.Fatalf("%v, %+v", err, u)
		}
		if err := reserve.Take(rt.Context(), u.At("p2"), high); err != nil || u.Holder != "p2" || len(u.Keys) != 1 {
			rt.Fatalf("the later owner again: %v, %+v", err, u)
		}
		if err := reserve.Drop(rt.Context(), u.At("p1"), low); err != nil || u.Holder != "p2" {
			rt.Fatalf("the earlier one drops its key: %v, %+v", err, u)
		}
		if err := reserve.Drop(rt.Context(), u.At("p2"), high); err != nil || u.Holder != "" || len(u.Keys) != 0 {
			rt.Fatalf("the later one drops its key: %v, %+v", err, u)
		}
	})
}

func TestUnsupported(t *testing.T) {
	if err := reserve.Take(t.Context(), (&prunit.Unit{None: true}).At("me"), key(t, "a", 1, "b")); !errors.Is(err, reserve.ErrUnsupported) {
		t.Error(err)
	}
}

package reserve_test

import (
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cloudengine/events"
	"cloudengine/workers/reserve"
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

func TestKeys(t *testing.T) {
	a, b := reserve.KeyOf("a", events.Epoch{Term: 1, Counter: 2}), reserve.KeyOf("a", events.Epoch{Term: 1, Counter: 3})
	if a == b || a == 0 || a != reserve.KeyOf("a", events.Epoch{Term: 1, Counter: 2}) || a == reserve.KeyOf("b", events.Epoch{Term: 1, Counter: 2}) {
		t.Error(a, b)
	}
}

// unit behaves as SPC-4 says: keys by initiator, one holder.
type unit struct {
	keys   map[int]reserve.Key
	holder int // 0: nobody
	kind   reserve.Type
}

func (u *unit) seen() (s reserve.Seen) {
	for i := range 4 {
		if k := u.keys[i]; k != 0 {
			s.Keys = append(s.Keys, k)
		}
	}
	if u.holder != 0 {
		s.Holder, s.Type = u.keys[u.holder], u.kind
	}
	return s
}

func (u *unit) do(from int, o reserve.Out) bool {
	if o.Action != reserve.RegisterAndIgnore && (u.keys[from] == 0 || u.keys[from] != o.Key) {
		return false // reservation conflict
	}
	switch o.Action {
	case reserve.RegisterAndIgnore, reserve.Register:
		u.keys[from] = o.Other
	case reserve.Reserve:
		if u.holder != 0 && (u.holder != from || u.kind != o.Type) {
			return false
		}
		u.holder, u.kind = from, o.Type
	case reserve.Release:
		if u.holder == from && u.kind == o.Type {
			u.holder = 0
		}
	case reserve.PreemptAndAbort:
		had := u.holder != 0 && u.keys[u.holder] == o.Other
		for i, k := range u.keys {
			if k == o.Other {
				delete(u.keys, i)
			}
		}
		if had {
			u.keys[from], u.holder, u.kind = o.Key, from, o.Type
		}
	}
	return true
}

// TestTakes: whatever a unit was, it is held by one initiator alone after a few commands, and the one that was there before has no key.
func TestTakes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		u := &unit{keys: map[int]reserve.Key{}}
		for i := range 4 {
			if k := rapid.Uint64Range(0, 3).Draw(rt, "key"); k != 0 {
				u.keys[i] = reserve.Key(k)
			}
		}
		if i := rapid.IntRange(0, 3).Draw(rt, "holder"); u.keys[i] != 0 {
			u.holder, u.kind = i, rapid.SampledFrom([]reserve.Type{reserve.WriteExclusive, reserve.ExclusiveAccess}).Draw(rt, "type")
		}
		const own, me = reserve.Key(9), 1
		mine := false
		for range 12 {
			o, more := reserve.Next(own, mine, u.seen())
			if !more {
				break
			}
			if !u.do(me, o) {
				rt.Fatalf("%+v is refused by %+v", o, u)
			}
			mine = mine || o.Action == reserve.RegisterAndIgnore
		}
		if len(u.keys) != 1 || u.keys[me] != own || u.holder != me || u.kind != reserve.ExclusiveAccess {
			rt.Fatalf("in the end: %+v", u)
		}
	})
}

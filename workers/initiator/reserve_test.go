package initiator

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"cloudengine/events"
	"cloudengine/workers/reserve"
	"cloudengine/workers/workertest/prunit"
)

// answering makes what a modelled unit says into bytes, as a target does.
func answering(u *prunit.Unit, nexus string) func(string, []byte, []byte, int32) (reply, error) {
	return func(_ string, cdb, data []byte, direction int32) (reply, error) {
		illegal := reply{status: statusCheck, driver: driverSense, sense: []byte{0x72, 5, 0x20, 0}}
		seen := u.Seen()
		switch {
		case u.None:
			return illegal, nil
		case cdb[0] == 0x5e && direction == sgDxferFromDv && cdb[1] == 0:
			binary.BigEndian.PutUint32(data[4:], uint32(8*len(seen.Keys)))
			for i, k := range seen.Keys {
				binary.BigEndian.PutUint64(data[8+8*i:], uint64(k))
			}
		case cdb[0] == 0x5e && direction == sgDxferFromDv && seen.Holder != 0:
			binary.BigEndian.PutUint32(data[4:], 16)
			binary.BigEndian.PutUint64(data[8:], uint64(seen.Holder))
			data[21] = byte(seen.Type)
		case cdb[0] == 0x5f && direction == sgDxferToDev:
			o := reserve.Out{Action: reserve.Action(cdb[1]), Type: reserve.Type(cdb[2]), Key: reserve.Key(binary.BigEndian.Uint64(data)),
				Other: reserve.Key(binary.BigEndian.Uint64(data[8:]))}
			if u.Do(nexus, o) != nil {
				return reply{status: statusConflict}, nil
			}
		}
		return reply{}, nil
	}
}

// at is a disk as reserve.Take has it.
type at struct {
	*Initiator
	dev string
}

func (a at) Reservation(ctx context.Context) (reserve.Seen, error) {
	return a.Initiator.Reservation(ctx, a.dev)
}

func (a at) Reserve(ctx context.Context, o reserve.Out) error {
	return a.Initiator.Reserve(ctx, a.dev, o)
}

func TestReservations(t *testing.T) {
	x := newTree(t)
	x.units = []unit{{1, naa1, "0"}}
	if err := x.i.Login(t.Context(), srpTarget); err != nil {
		t.Fatal(err)
	}
	dev := mustLUNs(t, x)[0].Dev
	u := &prunit.Unit{}
	send, attentions := answering(u, "us"), 2
	x.i.edges.reserve = func(dev string, cdb, data []byte, direction int32) (reply, error) {
		if attentions--; attentions >= 0 {
			return reply{status: statusCheck, driver: driverSense, sense: []byte{0x72, 6, 0x29, 0}}, nil
		}
		return send(dev, cdb, data, direction)
	}
	low, err1 := reserve.KeyOf("a", events.Epoch{Term: 1, Counter: 1}, "p1")
	own, err2 := reserve.KeyOf("a", events.Epoch{Term: 1, Counter: 2}, "p2")
	if err := errors.Join(err1, err2, reserve.Take(t.Context(), u.At("before"), low)); err != nil {
		t.Fatal(err)
	}
	if err := x.i.Reserve(t.Context(), dev, reserve.Out{Action: reserve.Reserve, Type: reserve.ExclusiveAccess, Key: own}); !errors.Is(err, reserve.ErrConflict) {
		t.Errorf("reserved without a key: %v", err)
	}
	if err := reserve.Take(t.Context(), at{x.i, dev}, own); err != nil || u.Holder != "us" || len(u.Keys) != 1 {
		t.Errorf("%v, %+v", err, u)
	}
	if seen, err := x.i.Reservation(t.Context(), dev); err != nil || !seen.Held(own) || !seen.Alone(own) {
		t.Errorf("%+v, %v", seen, err)
	}
	u.None = true
	if _, err := x.i.Reservation(t.Context(), dev); !errors.Is(err, reserve.ErrUnsupported) {
		t.Errorf("a unit without reservations: %v", err)
	}
	x.i.edges.reserve = func(string, []byte, []byte, int32) (reply, error) { return reply{host: 1}, nil }
	if _, err := x.i.Reservation(t.Context(), dev); !errors.Is(err, ErrTransport) {
		t.Errorf("a broken path: %v", err)
	}
	if _, err := x.i.Reservation(t.Context(), "../sda"); err == nil {
		t.Error("asked a path")
	}
}

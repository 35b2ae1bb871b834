package lio_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cloudengine/events"
	"cloudengine/workers/lio"
	"cloudengine/workers/lio/liotest"
)

// draw makes a configuration. A backstore may have another device or serial than in the one before.
func draw(t *rapid.T, name string) lio.Config {
	var c lio.Config
	for _, b := range []string{"a", "b", "c"} {
		if rapid.IntRange(0, 3).Draw(t, name+" has "+b) == 0 {
			continue
		}
		n := map[string]int{"a": 0, "b": 2, "c": 4}[b] + rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, name+" device of "+b)
		s := lio.Backstore{Name: b, Device: fmt.Sprintf("/dev/vd%d", n), DevNo: fmt.Sprintf("254:%d", n),
			UnitSerial: fmt.Sprintf("%025x", n+rapid.SampledFrom([]int{16, 16, 32}).Draw(t, name+" serial of "+b))}
		if rapid.Bool().Draw(t, name+" groups of "+b) {
			s.Groups = []lio.Group{{Name: "here", ID: rapid.IntRange(1, 2).Draw(t, name+" id in "+b),
				State: rapid.SampledFrom([]string{lio.Active, lio.Standby, lio.Unavailable}).Draw(t, name+" state of "+b)}}
		}
		c.Backstores = append(c.Backstores, s)
	}
	for _, p := range []lio.Port{{Transport: lio.ISCSI, Name: events.TargetIQN(m1)}, {Transport: lio.SRP, Name: gid}} {
		if rapid.IntRange(0, 3).Draw(t, name+" has port "+p.Transport) == 0 {
			continue
		}
		if p.Transport == lio.ISCSI {
			p.Addresses = []string{rapid.SampledFrom([]string{"10.1.0.1", "10.1.0.2"}).Draw(t, name+" address")}
		}
		for _, m := range []events.MachineID{m1, m2, m3} {
			for _, s := range c.Backstores {
				if rapid.Bool().Draw(t, fmt.Sprint(name, p.Transport, m, s.Name)) {
					g := lio.Grant{Machine: m, Initiator: initiator(t, p.Transport, m), Backstore: s.Name}
					if len(s.Groups) > 0 {
						g.Group = "here"
					}
					p.Grants = append(p.Grants, g)
				}
			}
		}
		c.Ports = append(c.Ports, p)
	}
	return c
}

// ready is what is observed once a wanted configuration is there.
func ready(c lio.Config) lio.Config {
	out := lio.Config{}
	for _, b := range c.Backstores {
		b.Ready = true
		out.Backstores = append(out.Backstores, b)
	}
	for _, p := range c.Ports {
		p.Ready = true
		p.Grants = slices.Clone(p.Grants)
		for i := range p.Grants {
			p.Grants[i].Ready = true
		}
		out.Ports = append(out.Ports, p)
	}
	return sorted(out)
}

func sorted(c lio.Config) lio.Config {
	for _, p := range c.Ports {
		slices.SortFunc(p.Grants, func(a, b lio.Grant) int {
			return strings.Compare(a.Initiator+a.Backstore, b.Initiator+b.Backstore)
		})
	}
	return c
}

var errKilled = errors.New("killed")

// apply plans and does the steps until nothing is left to do. Calls from the kill-th on fail (0: none), as if the agent had died there.
func apply(k *liotest.Kernel, want lio.Config, kill int) error {
	ctx := context.Background()
	check := k.Each
	calls := 0
	k.Each = func(change string, done bool) error {
		if calls++; kill > 0 && calls >= kill {
			return errKilled
		}
		if check != nil {
			return check(change, done)
		}
		return nil
	}
	defer func() { k.Each = check }()
	s := system(k)
	for range 8 {
		have, err := s.Observe(ctx)
		if err != nil {
			return err
		}
		steps := lio.Plan(want, have)
		if len(steps) == 0 {
			return nil
		}
		for _, step := range steps {
			if err := s.Apply(ctx, step); err != nil {
				return fmt.Errorf("%s: %w", step, err)
			}
		}
	}
	return errors.New("the plan does not come to an end")
}

// TestAnyStateIsBroughtToAnyOther: with kills in between, and never an access on the way that neither the state before nor the one after has.
func TestAnyStateIsBroughtToAnyOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := newKernel()
		var want lio.Config
		for i := range rapid.IntRange(1, 4).Draw(t, "configurations") {
			want = draw(t, fmt.Sprint("configuration ", i))
			allowed := allow(k.Access(), granted(want))
			k.Each = func(change string, _ bool) error {
				for who, what := range k.Access() {
					for _, x := range what {
						if !allowed[who+" "+x] {
							return fmt.Errorf("%s: %s reaches %s", change, who, x)
						}
					}
				}
				return nil
			}
			kill := rapid.IntRange(0, 80).Draw(t, "kill")
			if err := apply(k, want, kill); err != nil && !errors.Is(err, errKilled) {
				t.Fatalf("apply: %v", err)
			}
		}
		if err := apply(k, want, 0); err != nil {
			t.Fatalf("apply: %v", err)
		}
		have, err := system(k).Observe(context.Background())
		if err != nil {
			t.Fatalf("observe: %v", err)
		}
		if got := sorted(have); !reflect.DeepEqual(got, ready(want)) {
			t.Fatalf("it is\n%+v\nnot\n%+v", got, ready(want))
		}
		if got := allow(k.Access()); !reflect.DeepEqual(got, allow(granted(want))) {
			t.Fatalf("access is %v", got)
		}
	})
}

func granted(c lio.Config) map[string][]string {
	out := map[string][]string{}
	for _, p := range c.Ports {
		for _, g := range p.Grants {
			for _, b := range c.Backstores {
				if b.Name == g.Backstore {
					out[g.Initiator] = append(out[g.Initiator], fmt.Sprintf("%s as %s lun_%d", b.Device, b.UnitSerial, lio.LUN(b.UnitSerial)))
				}
			}
		}
	}
	return out
}

func allow(all ...map[string][]string) map[string]bool {
	out := map[string]bool{}
	for _, a := range all {
		for who, what := range a {
			for _, x := range what {
				out[who+" "+x] = true
			}
		}
	}
	return out
}

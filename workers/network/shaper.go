package network

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// noLeaf is set when this kernel was found to have no FQ-CoDel: then the class has its own queue, first in, first out.
var noLeaf atomic.Bool

// shapers reads what tc has of each device of a namespace, as words in order. What the kernel gives a device by itself is left out.
func (x inside) shapers(all []netlink.Link) (map[string][]string, error) {
	qdiscs, err := x.links.QdiscList(nil)
	if err != nil {
		return nil, fmt.Errorf("list qdiscs: %w", err)
	}
	out := map[string][]string{}
	for _, q := range qdiscs {
		i := slices.IndexFunc(all, func(l netlink.Link) bool { return l.Attrs().Index == q.Attrs().LinkIndex })
		if i < 0 || q.Attrs().Handle == 0 {
			continue
		}
		name := all[i].Attrs().Name
		out[name] = append(out[name], wordOf(q))
		if q.Attrs().Parent != netlink.HANDLE_ROOT {
			continue
		}
		inner, err := x.innerWords(all[i], q.Attrs().Handle)
		if err != nil {
			return nil, err
		}
		out[name] = append(out[name], inner...)
	}
	for _, words := range out {
		slices.Sort(words)
	}
	return out, nil
}

// wordOf says a qdisc: one of ours, or something else.
func wordOf(q netlink.Qdisc) string {
	a := q.Attrs()
	switch q := q.(type) {
	case *netlink.Htb:
		if a.Handle == netlink.MakeHandle(htbMajor, 0) && a.Parent == netlink.HANDLE_ROOT {
			return htbWord(q.Defcls)
		}
	case *netlink.FqCodel:
		if a.Handle == netlink.MakeHandle(leafMajor, 0) && a.Parent == netlink.MakeHandle(htbMajor, htbClass) {
			return leafWord(q.Target)
		}
	}
	return fmt.Sprintf("%s:%s@%s", q.Type(), netlink.HandleStr(a.Handle), netlink.HandleStr(a.Parent))
}

// innerWords says the classes and filters of a qdisc.
func (x inside) innerWords(l netlink.Link, root uint32) ([]string, error) {
	classes, err := x.links.ClassList(l, root)
	if err != nil {
		return nil, fmt.Errorf("list classes of %s: %w", l.Attrs().Name, err)
	}
	parents, out := []uint32{root}, []string{}
	for _, c := range classes {
		if c.Type() == "fq_codel" {
			continue // the flows that it has just now
		}
		htb, is := c.(*netlink.HtbClass)
		if !is || c.Attrs().Handle != netlink.MakeHandle(htbMajor, htbClass) {
			out = append(out, fmt.Sprintf("class:%s:%s", c.Type(), netlink.HandleStr(c.Attrs().Handle)))
			continue
		}
		parents = append(parents, c.Attrs().Handle)
		out = append(out, classWord(htb.Rate, htb.Ceil, htb.Buffer))
	}
	for _, parent := range parents {
		filters, err := x.links.FilterList(l, parent)
		if err != nil {
			return nil, fmt.Errorf("list filters of %s: %w", l.Attrs().Name, err)
		}
		for _, f := range filters {
			out = append(out, fmt.Sprintf("filter:%s@%s", f.Type(), netlink.HandleStr(f.Attrs().Parent)))
		}
	}
	return out, nil
}

// limit gives a device a shaper of this rate and nothing else, or takes all away. Where only the rate is another, nothing that waits is lost.
func (x inside) limit(l netlink.Link, rate uint64) error {
	all, err := x.shapers([]netlink.Link{l})
	if err != nil {
		return err
	}
	have := all[l.Attrs().Name]
	if slices.Equal(have, shaperWords(rate, !noLeaf.Load())) {
		return nil
	}
	if rate == 0 || !onlyRate(have) {
		if err := x.clear(l); err != nil || rate == 0 {
			return err
		}
	}
	if err := x.shaper(l, rate); err != nil {
		return fmt.Errorf("limit %s: %w", l.Attrs().Name, err)
	}
	return nil
}

// onlyRate says whether words are those of a shaper of ours, of whatever rate.
func onlyRate(have []string) bool {
	form := shaperWords(1, !noLeaf.Load())
	if len(have) != len(form) {
		return false
	}
	for i, word := range form {
		name, _, _ := strings.Cut(word, "=")
		if !strings.HasPrefix(have[i], name+"=") || word == htbWord(htbClass) && have[i] != word {
			return false
		}
	}
	return true
}

// clear removes every qdisc that somebody has given a device.
func (x inside) clear(l netlink.Link) error {
	qdiscs, err := x.links.QdiscList(l)
	if err != nil {
		return fmt.Errorf("list qdiscs of %s: %w", l.Attrs().Name, err)
	}
	for _, q := range qdiscs {
		a := q.Attrs()
		if a.Handle == 0 || a.Parent != netlink.HANDLE_ROOT && a.Parent != netlink.HANDLE_INGRESS {
			continue
		}
		if err := x.links.QdiscDel(q); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove %s of %s: %w", q.Type(), l.Attrs().Name, err)
		}
	}
	return nil
}

func (x inside) shaper(l netlink.Link, rate uint64) error {
	index := l.Attrs().Index
	root := netlink.NewHtb(netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(htbMajor, 0), Parent: netlink.HANDLE_ROOT})
	root.Defcls = htbClass
	if err := x.links.QdiscAdd(root); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add HTB: %w", err)
	}
	at, buffer := netlink.MakeHandle(htbMajor, htbClass), xmitTime(rate, burst(rate))
	class := &netlink.HtbClass{
		ClassAttrs: netlink.ClassAttrs{LinkIndex: index, Handle: at, Parent: netlink.MakeHandle(htbMajor, 0)}, Rate: rate, Ceil: rate, Buffer: buffer, Cbuffer: buffer, Quantum: 60000,
	}
	if err := x.links.ClassReplace(class); err != nil {
		return fmt.Errorf("set class: %w", err)
	}
	if noLeaf.Load() {
		return nil
	}
	leaf := netlink.NewFqCodel(netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(leafMajor, 0), Parent: at})
	leaf.Target = target(rate)
	switch err := x.links.QdiscReplace(leaf); {
	case errors.Is(err, unix.ENOENT):
		noLeaf.Store(true)
		return nil
	case err != nil:
		return fmt.Errorf("add FQ-CoDel: %w", err)
	}
	return nil
}

package network

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cloudengine/events/desired"
)

// Limits bound a vif, in bytes per second of Ethernet frames; 0 is no limit.
type Limits struct {
	In  uint64 // to the guest
	Out uint64 // from it
}

func (l Limits) String() string {
	return "in=" + strconv.FormatUint(l.In, 10) + ",out=" + strconv.FormatUint(l.Out, 10)
}

// parseLimits reads what String wrote.
func parseLimits(text string) (l Limits, err error) {
	if n, err := fmt.Sscanf(text, "in=%d,out=%d", &l.In, &l.Out); err != nil || n != 2 {
		return l, fmt.Errorf("read limits %q: %w", text, err)
	}
	return l, nil
}

// headers are the bytes of a full packet that are not what TCP carries: IPv4, TCP, and the timestamps that all send (RFC 7323).
const headers = 20 + 20 + 12

// onWire gives the rate of frames at which TCP with full packets carries a rate of bytes per second. mtu is in bytes.
func onWire(rate uint64, mtu int) uint64 {
	if mtu <= headers {
		return rate
	}
	return rate * uint64(mtu+14) / uint64(mtu-headers)
}

func limitsOf(p desired.Port, mtu int) Limits {
	return Limits{In: onWire(uint64(max(0, p.InBPS)), mtu), Out: onWire(uint64(max(0, p.OutBPS)), mtu)}
}

// A shaper is what tc(8) has of one device: HTB with one class, which all frames go through, and FQ-CoDel in it, so that flows are served in turn.
// Handles are ours alone: 1: and 2:.
const (
	htbMajor, leafMajor = 1, 2
	htbClass            = 1
)

// burst is what a shaper may send at once after a pause: 20 ms, and no less than half of the largest segment that a guest hands over at once.
func burst(rate uint64) uint32 { return uint32(max(rate/50, 32<<10)) }

// target is the delay that FQ-CoDel aims at (RFC 8290), in microseconds: 5 ms, or one and a half full frames where those take longer.
func target(rate uint64) uint32 { return uint32(max(5000, 1_500_000*1514/max(1, rate))) }

// words that say what is on a device. shaperWords gives those of one with a limit, in order; with none there is nothing but what the kernel has by itself.
func shaperWords(rate uint64, leaf bool) []string {
	if rate == 0 {
		return nil
	}
	out := []string{htbWord(htbClass), classWord(rate, rate, xmitTime(rate, burst(rate)))}
	if leaf {
		out = append(out, leafWord(target(rate)*1000>>10<<10/1000)) // as the kernel rounds it
	}
	slices.Sort(out)
	return out
}

// xmitTime gives how long so many bytes take, as HTB has it: in ticks of 64 ns.
func xmitTime(rate uint64, bytes uint32) uint32 {
	return uint32(min(uint64(bytes)*1_000_000_000/max(1, rate)/64, 1<<32-1))
}

func htbWord(def uint32) string { return fmt.Sprintf("htb:default=%d", def) }

func classWord(rate, ceil uint64, buffer uint32) string {
	return fmt.Sprintf("class:rate=%d/ceil=%d/buffer=%d", rate, ceil, buffer)
}

func leafWord(target uint32) string { return fmt.Sprintf("fq_codel:target=%dus", target) }

// shape joins the words of a vif, so that State can have them as text.
func shape(in, out []string) string {
	return "in{" + strings.Join(in, " ") + "} out{" + strings.Join(out, " ") + "}"
}

// shape says what shall be there. leaf: the kernel has FQ-CoDel.
func (l Limits) shape(leaf bool) string {
	return shape(shaperWords(l.In, leaf), shaperWords(l.Out, leaf))
}

// ifbOf gives the name of the device behind which what a vif's guest sends waits.
func ifbOf(device string) string { return "ifb" + strings.TrimPrefix(device, "vif") }

func isIfb(device string) bool {
	return strings.HasPrefix(device, "ifb") && isVif("vif"+strings.TrimPrefix(device, "ifb"))
}

package host

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"cloudengine/events"
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The samples were captured from Xen 4.17.7 in the boot image.
func TestParseSamples(t *testing.T) {
	all, err := ParseList(sample(t, "xl-list-v.txt"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Domain{{
		DomID: 6, Name: "ce-suite-000000000011", UUID: "5e1f7e57-0000-4000-8000-000000000011",
		State: events.DomainShutdown, ShutdownReason: "reboot", Ran: true, MemoryMiB: 128, VCPUs: 2,
	}}
	if !reflect.DeepEqual(all, want) {
		t.Errorf("got  %+v\nwant %+v", all, want)
	}
	weights, err := ParseWeights(sample(t, "xl-sched-credit.txt"))
	if err != nil || !reflect.DeepEqual(weights, map[int]int{0: 256, 6: 3}) {
		t.Errorf("weights %v, %v", weights, err)
	}
	info, err := ParseInfo(sample(t, "xl-info.txt"))
	if err != nil || info.Version != "4.17.7" || info.PCPUs != 2 || info.FreeMiB != 872 || info.TotalMiB != 2047 || info.Scheduler != "credit" {
		t.Errorf("info %+v, %v", info, err)
	}
	if got := strings.Join(info.Types(), ","); got != "pv,pvh" {
		t.Errorf("types %s", got)
	}
}

func TestStates(t *testing.T) {
	for row, want := range map[string][2]string{
		"r-----\t-": {events.DomainRunning, ""},
		"-b----\t-": {events.DomainRunning, ""},
		"------\t-": {events.DomainRunning, ""},
		"--p---\t-": {events.DomainPaused, ""},
		"---s--\t0": {events.DomainShutdown, "poweroff"},
		"--ps--\t0": {events.DomainShutdown, "poweroff"},
		"---sr-\t1": {events.DomainShutdown, "reboot"},
		"---ss-\t2": {events.DomainShutdown, "suspend"},
		"---sc-\t3": {events.DomainCrashed, "crash"},
		"---sw-\t4": {events.DomainCrashed, "watchdog"},
		"---s?-\t9": {events.DomainShutdown, "unknown"},
		"--ps-d\t0": {events.DomainDying, "poweroff"},
		"-----d\t-": {events.DomainDying, ""},
	} {
		letters, reason, _ := strings.Cut(row, "\t")
		state, why := stateOf(letters, reason)
		if state != want[0] || why != want[1] {
			t.Errorf("%q is %s %q, want %q", row, state, why, want)
		}
	}
}

const dom0Row = "Domain-0                                     0  1024     2     r-----     143.7 00000000-0000-0000-0000-000000000000        -                -\n"

// A list with a line that is not understood must not count as a list.
func TestListWithGapIsAnError(t *testing.T) {
	head := "Name                                        ID   Mem VCPUs\tState\tTime(s)   UUID                            Reason-Code\tSecurity Label\n"
	row := "g1                                           6   128     2     ---sr-      11.1 5e1f7e57-0000-4000-8000-000000000011        1                -\n"
	for name, text := range map[string]string{
		"empty":      "",
		"noheading":  dom0Row + row,
		"nodom0":     head + row,
		"short":      head + dom0Row + row[:60] + "\n",
		"twice":      head + dom0Row + row + row,
		"blank":      head + dom0Row + "\n",
		"foreign":    head + dom0Row + "error: cannot read domain 3\n",
		"hugedomid":  head + dom0Row + strings.Replace(row, "   6 ", "99999999999 ", 1),
		"cutinstate": head + dom0Row + strings.Replace(row, "---sr-", "---sr", 1),
	} {
		if all, err := ParseList([]byte(text)); err == nil {
			t.Errorf("%s: no error, and %+v", name, all)
		}
	}
	odd := strings.Replace(row, "g1  ", "a b c 1 2", 1)
	all, err := ParseList([]byte(head + dom0Row + odd + strings.Replace(strings.Replace(row, "g1    ", "(null)", 1), "   6 ", "   7 ", 1)))
	if err != nil || len(all) != 2 || !strings.HasPrefix(all[0].Name, "a b c 1 2") || all[1].Name != "(null)" {
		t.Errorf("odd names: %+v, %v", all, err)
	}
}

func FuzzParseList(f *testing.F) {
	f.Add(sample(f, "xl-list-v.txt"))
	f.Add([]byte("Name UUID\n" + dom0Row))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := ParseList(b)
		if err != nil {
			return
		}
		if rows := strings.Count(strings.TrimSuffix(string(b), "\n"), "\n"); len(all) != rows-1 {
			t.Fatalf("%d rows give %d domains", rows, len(all))
		}
		for _, d := range all {
			if d.State == "" || d.DomID <= 0 || len(d.UUID) != 36 {
				t.Fatalf("%+v", d)
			}
		}
	})
}

func FuzzParseWeights(f *testing.F) {
	f.Add(sample(f, "xl-sched-credit.txt"))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := ParseWeights(b)
		for id, n := range w {
			if err == nil && (id < 0 || n < 0) {
				t.Fatalf("%d: %d", id, n)
			}
		}
	})
}

func FuzzParseInfo(f *testing.F) {
	f.Add(sample(f, "xl-info.txt"))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := ParseInfo(b)
		if err == nil && (info.FreeMiB < 0 || info.PCPUs < 0) {
			t.Fatalf("%+v", info)
		}
	})
}

func FuzzParseStamp(f *testing.F) {
	f.Add("v", "1.2", "b", "0", "1", "destroyed", "u")
	f.Fuzz(func(t *testing.T, vm, epoch, boot, restarts, asked, how, uuid string) {
		s, ok := ParseStamp(5, map[string]string{
			nodeVM: vm, nodeEpoch: epoch, nodeBoot: boot, nodeRestarts: restarts, nodeAsked: asked, nodeHow: how, nodeUUID: uuid,
		})
		if !ok {
			return
		}
		nodes := map[string]string{}
		for _, n := range s.nodes() {
			nodes[n[0]] = n[1]
		}
		nodes[nodeHow] = s.How
		again, ok := ParseStamp(5, nodes)
		again.Asked = s.Asked
		if !ok || again != s {
			t.Fatalf("%+v is read back as %+v", s, again)
		}
	})
}

package commands

import (
	"fmt"
	"sort"
	"strings"

	"cloudengine/events"
)

// maxMemoryMiB is the most RAM that a VM may ask for: 16 TiB, Xen's own limit for a host.
const maxMemoryMiB = 16 << 20

// Overhead is what Xen needs on top of a domain's RAM, in MiB, rounded up: the domain's structures, its console ring and grant tables,
// and for PVH and HVM the pool of HAP page tables (libxl_get_required_shadow_memory: 1 MiB for each vCPU and 4 KiB for each MiB of RAM).
// vcpus is the most that the domain may have.
//
// Measured on Xen 4.17.7 as the difference of free_memory, in whole MiB, before and after "xl create -p"; it never says less than
// what was seen, and at most 3 MiB more:
//
//	MiB/vCPUs   128/1  128/16  512/1  512/16  1024/16  1536/2
//	PV  taken       0       1      0       1        1       0    says 3, 4, 3, 4, 4, 3
//	PVH taken       2      18      4      19       21       9    says 5, 20, 6, 21, 23, 11
//	HVM taken       2      18      4      19       21       9    as PVH; its device model is in the control domain, see DeviceModel
func Overhead(domainType string, memoryMiB, vcpus int) int {
	if domainType == events.TypePV {
		return 3 + vcpus/16 // page tables lie in the guest's own RAM
	}
	return 3 + vcpus + (4*memoryMiB+1023)/1024
}

// DeviceModel is what the device model of an HVM domain takes of its control domain's memory, in MiB: QEMU itself, and the kernel and
// ramdisk, which it keeps. Measured with QEMU 7.2, without graphics: 20 MiB with a kernel and ramdisk of 9 MiB.
func DeviceModel(domainType string, kernel, ramdisk int64) int {
	if domainType != events.TypeHVM {
		return 0
	}
	return 20 + int((kernel+ramdisk+1<<20-1)>>20)
}

// wantedScores is how many rows of a placement's table an event keeps.
const wantedScores = 16

// need is what a VM asks of a host.
type need struct {
	domainType string
	memoryMiB  int // with overhead
	vcpus      int
	only       events.MachineID // if set, no other host
	disks      map[string]*Volume
	nics       map[string]*NIC
	model      int // MiB of the control domain's memory, for a device model
}

// place scores every host and gives the best one. The table is sorted: best first, then the refused ones by name.
func (s *State) place(n need) (*Host, []events.Score) {
	table := make([]events.Score, 0, len(s.hosts))
	for _, h := range s.hosts {
		table = append(table, s.score(h, n))
	}
	sort.Slice(table, func(i, j int) bool {
		a, b := table[i], table[j]
		if (a.Refused == "") != (b.Refused == "") {
			return a.Refused == ""
		}
		if a.Score != b.Score {
			return a.Score > b.Score
		}
		return a.Name < b.Name || a.Name == b.Name && a.Host < b.Host
	})
	if len(table) == 0 || table[0].Refused != "" {
		return nil, table
	}
	return s.hosts[table[0].Host], table
}

// score is one host's row: 1 to 1000 by the share of its RAM that stays free, less up to 200 for vCPUs promised beyond its CPUs.
func (s *State) score(h *Host, n need) events.Score {
	free := h.FreeMiB()
	row := events.Score{Host: h.ID, Name: h.Name, FreeMiB: free}
	if row.Refused = s.unfit(h, n, free); row.Refused != "" {
		return row
	}
	row.Score = 1 + 999*(free-n.memoryMiB)/max(1, h.Capacity.AllocatableMiB)
	vcpus := n.vcpus
	for v := range h.grants {
		vcpus += s.vms[v].Grant.VCPUs
	}
	if over := vcpus - h.Capacity.PCPUs; over > 0 {
		row.Score -= min(200, 10*over)
	}
	row.Score = max(1, row.Score)
	return row
}

func (s *State) unfit(h *Host, n need, free int) string {
	m := s.machines[h.ID]
	switch {
	case n.only != "" && n.only != h.ID:
		return "another host was asked for"
	case h.Cordoned:
		return "cordoned"
	case m == nil || m.Boot != h.Boot:
		return "booting"
	case m.BootOver:
		return "off"
	case m.Silent:
		return "silent"
	case s.powerEnds(m):
		return "its power is being cut"
	case !s.ready(h):
		return "has not reported completely since its boot"
	case !contains(h.Capacity.Types, n.domainType):
		return "cannot run " + n.domainType
	case n.model > 0 && h.Capacity.DeviceModels-h.modelsMiB < n.model:
		return fmt.Sprintf("its control domain needs %d MiB for one more device model, %d MiB are left for them", n.model, max(0, h.Capacity.DeviceModels-h.modelsMiB))
	case s.onFabrics(h.ID, n.disks) != "":
		return "is not on fabric " + s.onFabrics(h.ID, n.disks) + ", where its disks are"
	case s.offNetworks(h.ID, n.nics) != "":
		return "is not on fabric " + s.offNetworks(h.ID, n.nics) + ", which carries its networks"
	case free < n.memoryMiB:
		return fmt.Sprintf("needs %d MiB, %d MiB free", n.memoryMiB, max(0, free))
	}
	return ""
}

// powerEnds says whether a power action that is under way will end the machine's present boot.
func (s *State) powerEnds(m *Machine) bool {
	_, open := s.ops[m.powerOp]
	return open && m.powerBoot == m.Boot && (m.powerGoal == events.PowerOff || m.powerGoal == events.PowerCycle)
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// noCapacity words the refusal with the reason of each host; for users of an account, who are not to know what hosts there are, without.
func noCapacity(table []events.Score) *Rejection {
	r := reject(events.CodeNoCapacity, "%s", reasons(table))
	r.ForAccounts = "no host can take it now: try again later, or ask the operators of the platform"
	return r
}

func reasons(table []events.Score) string {
	if len(table) == 0 {
		return "no host is enrolled: add machines and power them on"
	}
	var reasons []string
	for i, row := range table {
		if i == wantedScores {
			reasons = append(reasons, fmt.Sprintf("and %d more hosts", len(table)-i))
			break
		}
		reasons = append(reasons, row.Name+": "+row.Refused)
	}
	return "no host can take it: " + strings.Join(reasons, "; ")
}

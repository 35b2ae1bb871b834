package commands

import (
	"github.com/nats-io/nkeys"

	"cloudengine/events"
)

// Enrolment is a machine's first word after a boot. Its endpoint has replaced the token by its digest.
type Enrolment events.Enrol

func (a Enrolment) check() *Rejection {
	inv := a.Inventory
	switch {
	case a.Token != "":
		return invalid("field \"token\": a token must not come this far")
	case len(a.Boot) != 36 || !events.IsToken(a.Boot):
		return invalid("field \"boot\": want a boot id (a UUID)")
	case !nkeys.IsValidPublicUserKey(a.Key):
		return invalid("field \"key\": want a public user nkey")
	case len(a.Image) > 128 || len(inv.NICs) > 64 || len(inv.Serial) > 64 || len(inv.Product) > 128 || len(inv.CPUModel) > 128:
		return invalid("the inventory is larger than any machine's")
	case inv.CPUs < 0 || inv.MemoryMiB < 0:
		return invalid("field \"inventory\": negative amounts")
	}
	return first(checkID("machine", string(a.Machine)), checkBlob("token", events.Blob{SHA256: a.TokenSHA256, Size: 1}), checkCapacity(inv.Capacity))
}

func checkCapacity(c *events.Capacity) *Rejection {
	if c == nil {
		return nil
	}
	if c.AllocatableMiB < 0 || c.AllocatableMiB > maxMemoryMiB || c.PCPUs < 1 || c.PCPUs > 1<<14 || len(c.Types) > 8 || len(c.XenVersion) > 64 {
		return invalid("field \"capacity\": out of range")
	}
	return nil
}

// decideEnrol takes a new boot of a machine, proven by the token that our netboot server put into it. Hosts are diskless: a new boot
// ends every domain of an older one, and so every grant.
func decideEnrol(d *decision, a Enrolment) error {
	if d.c.Actor != MachineActor(a.Machine) {
		return reject(events.CodeUnauthorized, "a machine speaks for itself only")
	}
	m, ok := d.s.machines[a.Machine]
	if !ok {
		return reject(events.CodeNotFound, "there is no machine %s", a.Machine)
	}
	if err := d.admit(m, a); err != nil || m.Boot == a.Boot {
		return err
	}
	old := m.Boot
	d.add(events.KindMachine, string(m.ID), events.MachineEnrolled{Boot: a.Boot, Key: a.Key, Image: a.Image, TokenSHA256: a.TokenSHA256, Inventory: a.Inventory})
	if wrong := m.otherImage(a); wrong != "" { // it is the machine; but something is not as we think
		d.add(events.KindMachine, string(m.ID), events.MachineContradicted{Code: events.CodeContradicts, Message: wrong, Boot: a.Boot})
	}
	if old != "" {
		d.endGrants(m, old, events.ProofNewBoot)
		d.endOwners(m, old, events.ProofNewBoot)
		d.bootedAnew(m)
		if h, ok := d.s.hosts[m.ID]; ok {
			for _, uuid := range sortedKeys(h.orphans) {
				d.add(events.KindHost, string(m.ID), events.HostOrphanGone{Boot: old, UUID: uuid})
			}
		}
	}
	if a.Inventory.Capacity != nil && contains(m.Data.Roles, events.RoleHost) {
		d.add(events.KindHost, string(m.ID), events.HostRegistered{Name: m.Name, Boot: a.Boot, Capacity: *a.Inventory.Capacity})
	}
	return nil
}

// admit says whether the enrolment is of a boot that we served to this machine, or a repetition of the present one.
func (d *decision) admit(m *Machine, a Enrolment) error {
	if m.Data.Serial != "" && a.Inventory.Serial != m.Data.Serial {
		return m.contradict(events.CodeTwoMachines, "machine "+m.Name+" has another serial number than the one that it was added with")
	}
	if a.TokenSHA256 == m.usedToken {
		if a.Boot == m.Boot && a.Key == m.Key {
			return nil
		}
		return m.contradict(events.CodeTwoMachines, "a second boot or key came with the token that machine "+m.Name+" has used already")
	}
	if !m.served(a.TokenSHA256) {
		return reject(events.CodeBadToken, "this token was not served to machine %q, or a later boot has taken its place: boot it over the network again", m.Name)
	}
	if a.Boot == m.Boot {
		return m.contradict(events.CodeTwoMachines, "machine "+m.Name+" has a new token and the boot id of its last boot")
	}
	if ref, used := d.s.keys[a.Key]; used {
		return m.contradict(events.CodeTwoMachines, "machine "+m.Name+" enrols with a key that belongs to "+ref.String())
	}
	return nil
}

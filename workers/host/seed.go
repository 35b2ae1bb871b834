package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
)

// Seeds are the small read-only disks by which guests learn who they are, in the form of cloud-init's NoCloud. Package workers/seed has them.
type Seeds interface {
	// Have lists the seeds of this machine, sorted by name; also those that were made or taken away by half.
	Have(ctx context.Context) ([]SeedDisk, error)
	// Make makes the seed of a VM stand, and gives the path that the hotplug script knows it by. What stands already stays.
	Make(ctx context.Context, vm events.VMID, s desired.Seed) (path string, err error)
	// Remove takes away all that is left of a seed. It is no error if nothing is. A domain that still has it keeps it to its own end.
	Remove(ctx context.Context, name string) error
}

// SeedDisk is a seed of this machine.
type SeedDisk struct {
	Name   string // see SeedName
	Device string // number of its block device, as 7:3; empty: it has none, and so was made or taken away by half
}

// SeedSlot is where a guest has its seed: the last, so that no volume wants it.
const SeedSlot = "xvdz"

// seedDigits is how much of a seed's digest is in its name.
const seedDigits = 16

// SeedName names a seed by whose it is and what is in it: one that says something else has another name.
func SeedName(vm events.VMID, s desired.Seed) string {
	sum := sha256.Sum256([]byte(printSeed(s)))
	return string(vm) + "." + hex.EncodeToString(sum[:])[:seedDigits]
}

// SeedVM gives whose a seed is, by its name. ok is false for what is no such name.
func SeedVM(name string) (vm events.VMID, ok bool) {
	id, digest, ok := strings.Cut(name, ".")
	if !ok || len(digest) != seedDigits || strings.Trim(digest, "0123456789abcdef") != "" {
		return "", false
	}
	return events.VMID(id), id != "" && strings.Trim(id, "0123456789abcdef-") == ""
}

// printSeed writes a seed as a step's parameter. It cannot fail: a seed is made of texts.
func printSeed(s desired.Seed) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// kindSeed is the kind of object that a seed is in plans whose VM no document is about.
const kindSeed events.Kind = "seed"

// seedWanted is the name of the seed that the VM's domain shall have; empty: none.
func (p *planner) seedWanted() string {
	if p.w.Seed == nil {
		return ""
	}
	return SeedName(p.w.VM, *p.w.Seed)
}

// seed plans to make the seed, before anything is ended or made for it.
func (p *planner) seed() {
	if name := p.seedWanted(); name != "" {
		p.do(workers.Step{
			Kind: stepSeed, Target: name, Params: map[string]string{"vm": string(p.w.VM), "seed": printSeed(*p.w.Seed)},
			Why: "its guest is told who it is",
		})
	}
}

// unseed plans to take the VM's seeds away but keep. No domain of the VM may be there when it is carried out.
func (p *planner) unseed(keep, why string) {
	for _, s := range p.seeds {
		if s.Name != keep {
			p.do(unseed(s, why))
		}
	}
}

func unseed(s SeedDisk, why string) workers.Step {
	return workers.Step{Kind: stepUnseed, Target: s.Name, Why: why}
}

// leftSeeds plans to take away the seeds of VMs of which there is neither a document nor a domain.
func leftSeeds(x index, known map[string]bool) []workers.Plan {
	var plans []workers.Plan
	for vm, seeds := range x.seeds {
		if known[string(vm)] || len(x.domains[vm])+len(x.byUUID[string(vm)]) > 0 {
			continue
		}
		for _, s := range seeds {
			plans = append(plans, workers.Plan{Object: events.Ref{Kind: kindSeed, ID: s.Name}, Steps: []workers.Step{unseed(s, "nobody has it")}})
		}
	}
	return plans
}

var (
	errNoSeeds  = errors.New("this agent has no seeds")
	errSeedUsed = errors.New("a domain of its VM is still there")
)

// seedDisk gives the disk that a step's seed is, once it stands; none if the step has no seed.
func (w *Worker) seedDisk(ctx context.Context, s workers.Step) ([]Disk, error) {
	if s.Params["seed"] == "" {
		return nil, nil
	}
	if w.Seeds == nil {
		return nil, workers.Permanent(errNoSeeds)
	}
	var seed desired.Seed
	if err := json.Unmarshal([]byte(s.Params["seed"]), &seed); err != nil {
		return nil, workers.Permanent(fmt.Errorf("read seed: %w", err))
	}
	path, err := w.Seeds.Make(ctx, events.VMID(s.Params["vm"]), seed)
	if err != nil {
		return nil, fmt.Errorf("make seed: %w", err)
	}
	return []Disk{{Slot: SeedSlot, Path: path, ReadOnly: true}}, nil
}

// unseed takes a seed away, unless a domain of its VM has come meanwhile.
func (w *Worker) unseed(ctx context.Context, name string) error {
	vm, _ := SeedVM(name)
	ids, err := w.Store.Children(ctx, "/local/domain")
	if err != nil {
		return fmt.Errorf("list domains in xenstore: %w", err)
	}
	for _, id := range ids {
		domid, err := strconv.Atoi(id)
		if err != nil || domid == 0 {
			continue
		}
		uuid, err := domainUUID(ctx, w.Store, domid)
		if err != nil && !errors.Is(err, ErrNoNode) {
			return err
		}
		if uuid == string(vm) {
			return fmt.Errorf("remove seed %s: %w", name, errSeedUsed)
		}
	}
	return w.Seeds.Remove(ctx, name)
}

// seedAttached checks the seed among the devices that the kernel serves to a domain, and takes it from them. The number of a loop device
// proves the seed: the device is free, to be another's, only after the seed was taken away, which waits until its VM has no domain.
func (w *Worker) seedAttached(ctx context.Context, s workers.Step, have map[string]string) error {
	number, attached := have[SeedSlot]
	delete(have, SeedSlot)
	want := s.Params["seed"]
	if !attached {
		if want != "" {
			return fmt.Errorf("it has no seed, want %s: %w", want, errAttached)
		}
		return nil
	}
	if w.Seeds == nil {
		return workers.Permanent(errNoSeeds)
	}
	all, err := w.Seeds.Have(ctx)
	if err != nil {
		return err
	}
	for _, one := range all {
		vm, _ := SeedVM(one.Name)
		if one.Device == number && string(vm) == s.Params["vm"] && (want == "" || one.Name == want) {
			return nil
		}
	}
	return fmt.Errorf("its seed is device %s, which is not one of its own: %w", number, errAttached)
}

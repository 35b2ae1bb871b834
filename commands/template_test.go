package commands

import (
	"strings"
	"testing"

	"cloudengine/events"
)

const (
	testKey    = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ann@example"
	imageBytes = 10<<20 + 512 // it takes 11 MiB, and three extents of 4 MiB
)

func (w *world) diskTemplate(name string) {
	w.id(name, w.must(w.do("template.create", CreateTemplate{Name: name, Type: "disk", Disk: testBlob, DiskBytes: imageBytes, MinMemory: 64})))
}

// diskVM is a command that makes a VM from a template of type disk.
func (w *world) diskVM(name string) CreateVM {
	return CreateVM{Account: events.AccountID(w.ids["demo"]), Name: name, Type: "pvh", VCPUs: 1, MemoryMiB: 128, Template: events.TemplateID(w.ids["debian"])}
}

func TestTemplatesOfTypeDisk(t *testing.T) {
	w := newWorld(t)
	w.diskTemplate("debian")
	for what, a := range map[string]CreateTemplate{
		"no image":          {Type: "disk", DiskBytes: 512},
		"no size":           {Type: "disk", Disk: testBlob},
		"half a sector":     {Type: "disk", Disk: testBlob, DiskBytes: 700},
		"too large":         {Type: "disk", Disk: testBlob, DiskBytes: MaxImageBytes + 512},
		"negative":          {Type: "disk", Disk: testBlob, DiskBytes: -512},
		"blob too large":    {Type: "disk", Disk: events.Blob{SHA256: testBlob.SHA256, Size: events.MaxBlob + 1}, DiskBytes: 512},
		"with a kernel":     {Type: "disk", Disk: testBlob, DiskBytes: 512, Kernel: testBlob},
		"with a ramdisk":    {Type: "disk", Disk: testBlob, DiskBytes: 512, Ramdisk: testBlob},
		"with a cmdline":    {Type: "disk", Disk: testBlob, DiskBytes: 512, Cmdline: "quiet"},
		"kernel with disk":  {Type: "kernel", Kernel: testBlob, Disk: testBlob},
		"kernel with bytes": {Type: "kernel", Kernel: testBlob, DiskBytes: 512},
		"no kernel":         {Type: "kernel"},
		"huge kernel":       {Type: "kernel", Kernel: events.Blob{SHA256: testBlob.SHA256, Size: maxBoot + 1}},
		"neither":           {Type: "tape", Kernel: testBlob},
	} {
		a.Name, a.MinMemory = "x", 64
		if d := w.do("template.create", a); d.Outcome.Code != events.CodeInvalid {
			t.Errorf("%s: %+v", what, d.Outcome)
		}
	}
}

func TestVolumeFromATemplate(t *testing.T) {
	w := withArray(t)
	w.diskTemplate("debian")
	acc, debian := events.AccountID(w.ids["demo"]), events.TemplateID(w.ids["debian"])
	for _, x := range []struct {
		mib, extents int
	}{{0, 3}, {11, 3}, {13, 4}} {
		d := w.must(w.do("volume.create", CreateVolume{Account: acc, Name: "v" + string(rune('a'+x.mib)), Pool: w.pool(), SizeMiB: x.mib, Template: debian}))
		v := w.s.storage.volumes[events.VolumeID(d.Intent)]
		if total(v.Segments) != x.extents || v.Data.Source != testBlob || v.Data.SourceBytes != imageBytes || v.Data.Template != debian {
			t.Fatalf("%d MiB: %+v", x.mib, v.Data)
		}
	}
	for want, a := range map[string]CreateVolume{
		"needs at least 11 MiB": {Account: acc, SizeMiB: 10, Template: debian},
		"is of type kernel":     {Account: acc, Template: events.TemplateID(w.ids["tiny"])},
		"needs a size":          {Account: acc},
		"there is no template":  {Account: acc, Template: events.TemplateID(acc)},
	} {
		a.Name, a.Pool = "x", w.pool()
		if d := w.do("volume.create", a); d.Outcome.Status != events.Refused || !strings.Contains(d.Outcome.Message, want) {
			t.Errorf("want %q, got %+v", want, d.Outcome)
		}
	}
	other := w.id("other", w.must(w.do("account.create", CreateAccount{"other"})))
	a := CreateVolume{Account: events.AccountID(other), Name: "x", Pool: w.pool(), Template: events.TemplateID(w.id("theirs", w.must(w.do("template.create",
		CreateTemplate{Name: "theirs", Account: acc, Type: "disk", Disk: testBlob, DiskBytes: 512, MinMemory: 64}))))}
	w.refused(w.do("volume.create", a), events.CodeNotFound, "")
	w.audit()
}

// A template may go while volumes are filled from it: they hold what they need.
func TestVolumeOutlivesItsTemplate(t *testing.T) {
	w := withArray(t)
	w.diskTemplate("debian")
	d := w.must(w.do("volume.create", CreateVolume{Account: events.AccountID(w.ids["demo"]), Name: "v", Pool: w.pool(), Template: events.TemplateID(w.ids["debian"])}))
	w.id("v", d)
	w.must(w.do("template.delete", DeleteTemplate{events.TemplateID(w.ids["debian"])}))
	if w.volume("v").Data.Source != testBlob {
		t.Fatal("the volume has lost its source")
	}
	w.ready("v")
	if !w.volume("v").Ready || w.s.ops[d.Intent] != nil {
		t.Fatalf("it does not become ready: %+v", w.volume("v"))
	}
	w.audit()
}

func TestVMThatBootsFromItsDisk(t *testing.T) {
	w := withArray(t)
	w.diskTemplate("debian")
	a := w.diskVM("web")
	a.Pool, a.DiskMiB, a.Keys = w.pool(), 16, []string{testKey}
	d := w.must(w.do("vm.create", a))
	w.id("web", d)
	vm, v := w.s.vms[w.vm("web")], w.volume("web")
	if vm.Data.Boot != events.BootDisk || vm.Data.Kernel != (events.Blob{}) || len(vm.Data.Keys) != 1 {
		t.Fatalf("VM %+v", vm.Data)
	}
	if v == nil || v.Data.Name != "web" || total(v.Segments) != 4 || vm.disks[events.SlotPrimary] != v || v.VM != vm.ID {
		t.Fatalf("volume %+v", v)
	}
	w.addHost("host1", 2000)
	w.must(w.do("fabric.join", JoinFabric{Fabric: events.FabricID(w.ids["san"]), Machine: w.host("host1"), MAC: "52:54:00:00:01:ff"}))
	w.says(w.do("vm.start", StartVM{VM: vm.ID}), "being filled from its template")
	w.ready("web")
	if w.s.ops[d.Intent] != nil {
		t.Fatal("the operation does not end when the disk is ready")
	}
	w.must(w.do("vm.start", StartVM{VM: vm.ID}))
	w.audit()
}

func TestVMWithoutADiskToBootFrom(t *testing.T) {
	w := withArray(t)
	w.diskTemplate("debian")
	w.addHost("host1", 2000)
	w.must(w.do("fabric.join", JoinFabric{Fabric: events.FabricID(w.ids["san"]), Machine: w.host("host1"), MAC: "52:54:00:00:01:ff"}))
	w.id("web", w.must(w.do("vm.create", w.diskVM("web"))))
	w.says(w.do("vm.start", StartVM{VM: w.vm("web")}), "boots from disk xvda and has none")
	w.createVolume("data", 8)
	w.ready("data")
	w.must(w.do("volume.attach", AttachVolume{Volume: w.volume("data").ID, VM: w.vm("web"), Slot: events.SlotSecondary}))
	w.says(w.do("vm.start", StartVM{VM: w.vm("web")}), "boots from disk xvda and has none")
	w.audit()
}

func TestVMFromADiskIsRefused(t *testing.T) {
	w := withArray(t)
	w.diskTemplate("debian")
	w.createVolume("taken", 8)
	private := "-----BEGIN OPENSSH PRIVATE KEY-----"
	for want, change := range map[string]func(*CreateVM){
		"command line is on the disk":          func(a *CreateVM) { a.Cmdline = "quiet" },
		"goes with field \"pool\"":             func(a *CreateVM) { a.DiskMiB = 20 },
		"needs at least 11 MiB":                func(a *CreateVM) { a.Pool, a.DiskMiB = w.pool(), 10 },
		"has 4000 MiB free":                    func(a *CreateVM) { a.Pool, a.DiskMiB = w.pool(), 4000 },
		"volume \"taken\" is there already":    func(a *CreateVM) { a.Pool, a.Name = w.pool(), "taken" },
		"at most 16":                           func(a *CreateVM) { a.Keys = make([]string, 17) },
		"key 2 is no SSH public key":           func(a *CreateVM) { a.Keys = []string{testKey, private} },
		"key 1 is no SSH public key":           func(a *CreateVM) { a.Keys = []string{testKey + "\nssh-rsa x"} },
		"in one line of at most 4096":          func(a *CreateVM) { a.Keys = []string{testKey + strings.Repeat("x", 4096)} },
		"key 1 is cut off":                     func(a *CreateVM) { a.Keys = []string{testKey[:40]} },
		"or not of the type":                   func(a *CreateVM) { a.Keys = []string{strings.Replace(testKey, "ssh-ed25519", "ssh-rsa", 1)} },
		"nothing would hand keys to its guest": func(a *CreateVM) { a.Template, a.Keys = events.TemplateID(w.ids["tiny"]), []string{testKey} },
		"no image that a disk":                 func(a *CreateVM) { a.Template, a.Pool = events.TemplateID(w.ids["tiny"]), w.pool() },
	} {
		a := w.diskVM("web")
		change(&a)
		d := w.do("vm.create", a)
		w.says(d, want)
		if strings.Contains(d.Outcome.Message, "PRIVATE") {
			t.Errorf("the answer repeats what was sent as a key: %s", d.Outcome.Message)
		}
	}
	w.audit()
}

// says expects a refusal whose message contains a text.
func (w *world) says(d events.Decision, want string) {
	w.t.Helper()
	if d.Outcome.Status != events.Refused || !strings.Contains(d.Outcome.Message, want) {
		w.t.Errorf("want a refusal that says %q, got %+v", want, d.Outcome)
	}
}

package commands

import (
	"encoding/hex"

	"cloudengine/events"
)

// Template is something that guests are made from.
type Template struct {
	ID      events.TemplateID
	Account events.AccountID
	Data    events.TemplateCreated
}

// CreateTemplate makes a template from files that were put before.
type CreateTemplate struct {
	Name      string           `json:"name"`
	Account   events.AccountID `json:"account,omitempty"`
	Type      string           `json:"type"`
	Kernel    events.Blob      `json:"kernel,omitzero"`
	Ramdisk   events.Blob      `json:"ramdisk,omitzero"`
	Cmdline   string           `json:"cmdline,omitempty"`
	MinMemory int              `json:"min_memory_mib"`
	Disk      events.Blob      `json:"disk,omitzero"`        // type disk: the image, one stream of Zstandard
	DiskBytes int64            `json:"disk_bytes,omitempty"` // type disk: size of the image when it is unpacked

	DiskContent string `json:"disk_content_sha256,omitempty"` // type disk: digest of the image when it is unpacked; empty: copies of it are not looked at
}

func (a CreateTemplate) check() *Rejection {
	if a.MinMemory < 1 || a.MinMemory > maxMemoryMiB {
		return invalid("field \"min_memory_mib\": want 1 to %d", maxMemoryMiB)
	}
	if a.Account != "" {
		if r := checkID("account", string(a.Account)); r != nil {
			return r
		}
	}
	if a.DiskBytes < 0 || a.DiskBytes > MaxImageBytes {
		return invalid("field \"disk_bytes\": want a multiple of %d up to %d", events.SectorSize, int64(MaxImageBytes))
	}
	return first(checkName("name", a.Name), checkType(a.Type), checkContent(a.DiskContent), checkFile("kernel", a.Kernel), checkFile("ramdisk", a.Ramdisk), checkFile("disk", a.Disk),
		checkCmdline(a.Cmdline))
}

func checkType(t string) *Rejection {
	if t != events.TemplateKernel && t != events.TemplateDisk {
		return invalid("field \"type\": want %s or %s", events.TemplateKernel, events.TemplateDisk)
	}
	return nil
}

func checkContent(digest string) *Rejection {
	if digest != "" && !isDigest(digest) {
		return invalid("field \"disk_content_sha256\": want 64 hexadecimal digits in lower case, or nothing")
	}
	return nil
}

func isDigest(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == 32 && hex.EncodeToString(raw) == s
}

// MaxImageBytes bounds the image of a template of type disk, as it is on a disk.
const MaxImageBytes = 1 << 40

// maxBoot bounds a kernel and a ramdisk, in bytes: hosts hold them in memory.
const maxBoot = 1 << 30

// checkFile takes a blob of any size that is kept, or none.
func checkFile(field string, b events.Blob) *Rejection {
	if b == (events.Blob{}) {
		return nil
	}
	return checkBlobTo(field, b, events.MaxBlob)
}

func checkBlob(field string, b events.Blob) *Rejection { return checkBlobTo(field, b, maxBoot) }

func checkBlobTo(field string, b events.Blob, most int64) *Rejection {
	if !isDigest(b.SHA256) {
		return invalid("field \"%s.sha256\": want 64 hexadecimal digits in lower case", field)
	}
	if b.Size < 1 || b.Size > most {
		return invalid("field \"%s.size\": want 1 to %d bytes", field, most)
	}
	return nil
}

// whole refuses a template that has not all that its type needs, or what is of the other type.
func (a CreateTemplate) whole() error {
	none := events.Blob{}
	switch {
	case a.Type == events.TemplateDisk && (a.Kernel != none || a.Ramdisk != none || a.Cmdline != ""):
		return reject(events.CodeInvalid, "a template of type disk has no kernel, ramdisk and cmdline: they are on the disk")
	case a.Type == events.TemplateDisk && a.Disk == none:
		return reject(events.CodeInvalid, "field \"disk\": want the image of the disk")
	case a.Type == events.TemplateDisk && (a.DiskBytes == 0 || a.DiskBytes%events.SectorSize != 0):
		return reject(events.CodeInvalid, "field \"disk_bytes\": want a multiple of %d", events.SectorSize)
	case a.Type == events.TemplateDisk:
		return nil
	case a.Disk != none || a.DiskBytes != 0 || a.DiskContent != "":
		return reject(events.CodeInvalid, "a template of type kernel has no disk")
	case a.Kernel == none:
		return reject(events.CodeInvalid, "field \"kernel\": want the kernel")
	case a.Kernel.Size > maxBoot || a.Ramdisk.Size > maxBoot:
		return reject(events.CodeInvalid, "a kernel and a ramdisk have at most %d bytes each", maxBoot)
	}
	return nil
}

// checkCmdline keeps out what could break the line, or out of the quotes of a domain's configuration.
func checkCmdline(s string) *Rejection {
	if len(s) > 1024 {
		return invalid("field \"cmdline\": want at most 1024 bytes")
	}
	for _, c := range s {
		if c < ' ' || c > '~' || c == '"' || c == '\'' || c == '\\' {
			return invalid("field \"cmdline\": want printable ASCII without quotes and backslashes")
		}
	}
	return nil
}

func decideCreateTemplate(d *decision, a CreateTemplate) error {
	if err := a.whole(); err != nil {
		return err
	}
	if a.Account == "" && d.user != nil && d.user.Account != "" {
		return reject(events.CodeForbidden, "a template for every account is for operators of the platform: name your account")
	}
	if a.Account != "" {
		if _, err := d.account(a.Account); err != nil {
			return err
		}
	}
	if err := d.freeName(events.KindTemplate, a.Account, a.Name); err != nil {
		return err
	}
	d.add(events.KindTemplate, d.newID(), events.TemplateCreated(a))
	return nil
}

// templateFor finds a template that an account may use.
func (d *decision) templateFor(id events.TemplateID, acc *Account) (*Template, error) {
	t, ok := d.s.templates[id]
	if !ok || t.Account != "" && t.Account != acc.ID {
		return nil, reject(events.CodeNotFound, "there is no template %s for account %q", id, acc.Name)
	}
	return t, nil
}

// DeleteTemplate ends a template; VMs made from it go on.
type DeleteTemplate struct {
	Template events.TemplateID `json:"template"`
}

func (a DeleteTemplate) check() *Rejection { return checkID("template", string(a.Template)) }

func decideDeleteTemplate(d *decision, a DeleteTemplate) error {
	t, ok := d.s.templates[a.Template]
	if !ok || !d.owns(t.Account) {
		return reject(events.CodeNotFound, "there is no template %s", a.Template)
	}
	if err := d.expect(events.KindTemplate, t.Data.Name); err != nil {
		return err
	}
	d.add(events.KindTemplate, string(t.ID), events.TemplateDeleted{})
	return nil
}

func (s *State) foldTemplate(e events.Event) {
	id := events.TemplateID(e.Aggregate.ID)
	switch data := e.Data.(type) {
	case events.TemplateCreated:
		s.templates[id] = &Template{ID: id, Account: data.Account, Data: data}
		s.names[scope(events.KindTemplate, data.Account, data.Name)] = e.Aggregate.ID
		s.own(data.Account, 1)
	case events.TemplateDeleted:
		if t, ok := s.templates[id]; ok {
			delete(s.names, scope(events.KindTemplate, t.Account, t.Data.Name))
			delete(s.templates, id)
			s.own(t.Account, -1)
		}
	}
}

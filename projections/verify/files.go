package verify

import (
	"fmt"
	"sort"

	"cloudengine/events"
	document "cloudengine/events/desired"
	"cloudengine/projections"
)

// NamedBlob is a file that something needs.
type NamedBlob struct {
	events.Blob
	For string // such as "kernel of template debian"
}

// Blobs lists the files that templates, volumes that are not filled yet, and the documents of domains need, each once, by digest.
func (c *Cloud) Blobs() []NamedBlob {
	all := map[string]NamedBlob{}
	add := func(digest string, size int64, what string) {
		if _, ok := all[digest]; !ok && digest != "" {
			all[digest] = NamedBlob{events.Blob{SHA256: digest, Size: size}, what}
		}
	}
	for _, t := range rows[projections.Template](c, events.KindTemplate) {
		if t.KernelSHA256 != nil && t.KernelSize != nil {
			add(*t.KernelSHA256, *t.KernelSize, "kernel of template "+t.Name)
		}
		if t.DiskSHA256 != nil && t.DiskSize != nil {
			add(*t.DiskSHA256, *t.DiskSize, "disk of template "+t.Name)
		}
		if t.RamdiskSHA256 != nil && t.RamdiskSize != nil {
			add(*t.RamdiskSHA256, *t.RamdiskSize, "ramdisk of template "+t.Name)
		}
	}
	for _, v := range rows[projections.Volume](c, events.KindVolume) {
		if v.State == projections.VolumeMaking && v.Source != nil && v.SourceSize != nil { // its template may be deleted
			add(*v.Source, *v.SourceSize, "image of volume "+v.Name)
		}
	}
	c.Docs.Each(func(_ string, d document.Document) {
		if b, err := d.Domain(); err == nil && (b.Want == document.Running || b.Want == document.Paused) {
			add(b.Kernel.SHA256, b.Kernel.Size, "kernel of VM "+c.vm(d.ID))
			add(b.Ramdisk.SHA256, b.Ramdisk.Size, "ramdisk of VM "+c.vm(d.ID))
		}
	})
	out := make([]NamedBlob, 0, len(all))
	for _, b := range all {
		out = append(out, b)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].SHA256 < out[j].SHA256 })
	return out
}

// BlobFinding tells of a file that is not there, or not what it should be.
func (c *Cloud) BlobFinding(b NamedBlob, err error) []Finding {
	if err == nil {
		return nil
	}
	return []Finding{{Section: Files, Severity: Wrong, Check: "blob", Kind: "file", ID: b.SHA256, Name: b.For, What: err.Error(),
		Want: fmt.Sprintf("%d bytes of SHA-256 %s", b.Size, b.SHA256), Have: "not that",
		Next: "upload it again (\"cloudengine template import\" with the same files under another name puts it back), or delete the template; hosts that have it go on"}}
}

// Secrets lists the secrets.
func (c *Cloud) Secrets() []*projections.Secret {
	return rows[projections.Secret](c, events.KindSecret)
}

// SecretFinding tells of a secret whose value is not there, or not the one that the log recorded.
func (c *Cloud) SecretFinding(s *projections.Secret, err error) []Finding {
	if err == nil {
		return nil
	}
	return []Finding{{Section: Files, Severity: Wrong, Check: "secret", Kind: "secret", ID: s.ID, Name: s.Name, What: err.Error(),
		Want: "a value with the fingerprint " + s.Fingerprint, Have: "not that", Next: "set it again: \"cloudengine secret set " + s.Name + "\""}}
}

// Images lists the versions of the boot image that machines are to boot.
func (c *Cloud) Images() []string {
	next := map[string]bool{}
	for _, m := range rows[projections.Machine](c, events.KindMachine) {
		if m.ImageNext != nil {
			next[*m.ImageNext] = true
		}
	}
	return keys(next)
}

// ImageFinding tells of a boot image that machines are to boot and that is not kept whole for them.
func (c *Cloud) ImageFinding(version string, err error) []Finding {
	if err == nil {
		return nil
	}
	return []Finding{{Section: Files, Severity: Wrong, Check: "bootimage", Kind: "bootimage", ID: version, What: "machines are to boot it, and our copy is not whole: " + err.Error(),
		Want: "every part with the digest of its manifest", Have: "not that",
		Next: "put it into the server's image directory, or upload it again (\"cloudengine bootimage add\"); \"cloudengine machine set-image\" gives machines another"}}
}

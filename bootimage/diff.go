package bootimage

import (
	"slices"
	"strconv"
)

// Change is one difference between two images. A part that only one of them has is empty in the other.
type Change struct {
	What   string `json:"what"` // kernel, package, tool, part or content
	Name   string `json:"name"`
	Before string `json:"before,omitempty"` // version; of parts and contents bytes
	After  string `json:"after,omitempty"`
}

// The kinds of differences.
const (
	WhatKernel  = "kernel"
	WhatPackage = "package"
	WhatTool    = "tool"
	WhatPart    = "part"
	WhatContent = "content"
)

// Diff lists what differs between two images, in the order kernel, packages, tools, parts, contents and by name in each. A package with
// the same version and another digest is a difference too; so is a part of the same size with other bytes: both show the digest then.
func Diff(a, b Manifest) []Change {
	var out []Change
	if a.Kernel != b.Kernel {
		out = append(out, Change{WhatKernel, "linux", a.Kernel, b.Kernel})
	}
	packages := func(m Manifest) map[string][2]string {
		return table(m.Packages, func(p Package) (string, string, string) { return p.Name, p.Version, p.SHA256 })
	}
	tools := func(m Manifest) map[string][2]string {
		return table(m.Tools, func(t Tool) (string, string, string) { return t.Name, t.Version, "" })
	}
	parts := func(m Manifest) map[string][2]string {
		return table(m.Parts, func(p Part) (string, string, string) { return p.Name, strconv.FormatInt(p.Size, 10), p.SHA256 })
	}
	contents := func(m Manifest) map[string][2]string {
		return table(m.Contents, func(c Content) (string, string, string) { return c.Name, strconv.FormatInt(c.Size, 10), "" })
	}
	out = append(out, changes(WhatPackage, packages(a), packages(b))...)
	out = append(out, changes(WhatTool, tools(a), tools(b))...)
	out = append(out, changes(WhatPart, parts(a), parts(b))...)
	return append(out, changes(WhatContent, contents(a), contents(b))...)
}

// table gives what is shown and the digest, by name.
func table[T any](list []T, of func(T) (name, shown, digest string)) map[string][2]string {
	out := map[string][2]string{}
	for _, x := range list {
		name, shown, digest := of(x)
		out[name] = [2]string{shown, digest}
	}
	return out
}

func changes(what string, a, b map[string][2]string) []Change {
	var names []string
	for n := range a {
		names = append(names, n)
	}
	for n := range b {
		if _, both := a[n]; !both {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	var out []Change
	for _, n := range names {
		x, y := a[n], b[n]
		switch {
		case x == y:
		case x[0] == y[0]: // the same version or size, and other bytes
			out = append(out, Change{what, n, x[0] + " " + short(x[1]), y[0] + " " + short(y[1])})
		default:
			out = append(out, Change{what, n, x[0], y[0]})
		}
	}
	return out
}

func short(digest string) string { return digest[:min(len(digest), 12)] }

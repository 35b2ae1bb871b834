package main

import (
	"context"
	"fmt"
	"path/filepath"

	"cloudengine/bootimage"
)

const (
	imageDir  = "bin/image"
	imageGoal = 80 << 20 // with what HVM domains need
	leanGoal  = 48 << 20 // without
	mkimage   = "./bootimage/mkimage"
)

// image builds the boot image, unless this run did, and gives its directory and manifest.
func (b *bench) image(ctx context.Context) (string, bootimage.Manifest, error) {
	if !b.built["image"] {
		b.say("build the boot image")
		if err := quietly(ctx, "go", "run", mkimage); err != nil {
			return "", bootimage.Manifest{}, fmt.Errorf("build boot image: %w", err)
		}
		b.built["image"] = true
	}
	return current(imageDir)
}

// bareImage builds the same image without our agent: what is in its place has a shell say that it runs.
func (b *bench) bareImage(ctx context.Context) (string, bootimage.Manifest, error) {
	out := filepath.Join("bin", "bench", "bare")
	b.say("build the image without the agent")
	if err := quietly(ctx, "go", "run", mkimage, "-o", out, "-noded", "cloudengine/e2e/bench/bare", "-guest", "", "-keep", "1"); err != nil {
		return "", bootimage.Manifest{}, fmt.Errorf("build bare image: %w", err)
	}
	return current(out)
}

func current(images string) (string, bootimage.Manifest, error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(images, bootimage.CurrentLink))
	if err != nil {
		return "", bootimage.Manifest{}, fmt.Errorf("find boot image: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", bootimage.Manifest{}, fmt.Errorf("find boot image: %w", err)
	}
	m, err := bootimage.ReadManifest(dir)
	return dir, m, err
}

// measureImage measures P10-size.
func measureImage(ctx context.Context, b *bench, add func(Result)) error {
	_, m, err := b.image(ctx)
	if err != nil {
		return err
	}
	parts := ""
	for _, p := range m.Parts {
		parts += fmt.Sprintf("; %s %.1f", p.Name, float64(p.Size)/(1<<20))
	}
	verdict := "goal ≤ 80 MiB with HVM met, and also ≤ 48 MiB, the goal without"
	switch {
	case m.Size() > imageGoal:
		verdict = "goal ≤ 80 MiB with HVM MISSED"
	case m.Size() > leanGoal:
		verdict = "goal ≤ 80 MiB with HVM met"
	}
	add(Result{ID: "P10-size", Name: "boot image: hypervisor, kernel, initramfs", Ours: float64(m.Size()) / (1 << 20), Unit: "MiB", Runs: 1,
		Note: fmt.Sprintf("%s (%d bytes)%s", verdict, m.Size(), parts)})
	return nil
}
